/** Embeddings of contents, and the encodings of vectors in replies. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { TandemError } from '../../errors.js'
import type { Input, Retrieval } from '../../retrieval/retrieval.js'
import { normalise } from '../../vector-index/normalise.js'
import { words } from '../schemas/fields.js'
import { base64OfFloats, jsonOfFloats } from '../wire/embedding-text.js'
import { InputReader, MAX_INTERACTIVE } from '../wire/inputs.js'
import type { Content } from './content.js'
import type { DialectOptions } from './dialects.js'

export const VECTOR_FORMATS = ['float', 'base64', 'binary', 'ubinary'] as const
export type VectorFormat = (typeof VECTOR_FORMATS)[number]

type Model = Awaited<ReturnType<Retrieval['embed']>>['model']

/**
 * One embedding of each content. Of several parts it is their normalised sum (score fusion of
 * UniIR, arXiv:2311.17136): similarity to it is a mean of the similarities to the parts.
 *
 * @param name - of the list, in errors
 * @param nameOf - of the content at a position
 */
export async function vectorsOf(
  contents: readonly Content[],
  { name, nameOf }: { name: string; nameOf: (at: number) => string },
  options: DialectOptions,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<{ model: Model; vectors: Float32Array[] }> {
  const reader = new InputReader(options, request)
  reader.checkCount(
    contents.reduce(
      (sum, { text, images }) => sum + images.length + (text === undefined ? 0 : 1),
      0,
    ),
    name,
  )
  const stored = contents.findIndex(({ id }) => id !== undefined)
  if (stored !== -1)
    throw new TandemError(
      'invalid_request',
      `${nameOf(stored)} is the id of an item; expected a text or an image.`,
    )
  const owners: number[] = []
  const inputs = await Promise.all(
    contents.flatMap((content, at) => {
      const parts = inputsOf(content, nameOf(at), reader)
      owners.push(...parts.map(() => at))
      return parts
    }),
  )
  const call = inputs.length > MAX_INTERACTIVE ? request.admission.asBulk() : request.call
  const named = (at: number): string => nameOf(owners[at] ?? 0)
  const { model, embeddings, timings } = await options.retrieval.embed(inputs, call, named)
  reply.timed(timings)
  const vectors = contents.map((_, at) =>
    meanOf(embeddings.filter((_embedding, row) => owners[row] === at)),
  )
  return { model, vectors }
}

/** A vector in a reply. */
export const Vector = Type.Unsafe<number[] | string>({
  anyOf: [{ type: 'array', items: { type: 'number' } }, { type: 'string' }],
})

/** A vector in the list of OpenAI. */
export const EmbeddingItem = Type.Object(
  { object: words('embedding'), index: Type.Integer(), embedding: Vector },
  { title: 'EmbeddingItem' },
)

/** The list of OpenAI in JSON, with `head` before its data. */
export function listOfEmbeddings(
  head: object,
  vectors: readonly Float32Array[],
  format: VectorFormat,
): string {
  const items = vectors.map(
    (vector, index) =>
      `{"object":"embedding","index":${index},"embedding":${vectorText(vector, format)}}`,
  )
  const start = JSON.stringify({ object: 'list', ...head })
  return `${start.slice(0, -1)},"data":[${items.join()}]}`
}

/** A vector in JSON. */
export function vectorText(vector: Float32Array, format: VectorFormat): string {
  if (format === 'float') return jsonOfFloats(vector)
  if (format === 'base64') return `"${base64OfFloats(vector)}"`
  const bits = signBits(vector)
  // As signed bytes, 0 to 255 become -128 to 127 (Cohere's and Jina's `binary`).
  return JSON.stringify(format === 'ubinary' ? bits : bits.map((byte) => byte - 128))
}

function inputsOf({ text, images }: Content, name: string, reader: InputReader): Promise<Input>[] {
  // Asynchronous too: an error must not leave the promises of images without a handler.
  const readText = async (value: string): Promise<Input> =>
    Promise.resolve({ text: reader.text(value, name) })
  const readImage = async (image: string): Promise<Input> => ({
    image: await reader.image(image, name),
  })
  return [...(text === undefined ? [] : [readText(text)]), ...images.map(readImage)]
}

function meanOf(vectors: readonly Float32Array[]): Float32Array {
  const [first = new Float32Array(), ...rest] = vectors
  if (rest.length === 0) return first
  return normalise(
    first.map((value, at) => rest.reduce((sum, vector) => sum + (vector[at] ?? 0), value)),
    first.length,
  )
}

/** A bit for each value, 1 above zero; eight a byte, the first value in the highest bit. */
function signBits(vector: Float32Array): number[] {
  return Array.from({ length: Math.ceil(vector.length / 8) }, (_, byte) =>
    Array.from({ length: 8 }, (_bit, at) =>
      (vector[byte * 8 + at] ?? 0) > 0 ? 1 : 0,
    ).reduce<number>((bits, bit) => bits * 2 + bit, 0),
  )
}
