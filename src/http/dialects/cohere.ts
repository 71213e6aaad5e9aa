/** Embeddings as Cohere has them, in both versions of its API. */
import { Type, type Static } from 'typebox'
import { TandemError } from '../../errors.js'
import { inputErrors } from '../plugins/documented-errors.js'
import { words } from '../schemas/fields.js'
import { contentsOf, type Content } from './content.js'
import type { Dialect, DialectRoutes } from './dialects.js'
import { errorAndMessage } from './error-members.js'
import { checkDimensions, checkModel } from './named-model.js'
import { Vector, VECTOR_FORMATS, vectorsOf, vectorText, type VectorFormat } from './vectors.js'

const EmbedBody = Type.Object(
  {
    model: Type.Optional(Type.String({ description: 'the name of the bundle that serves' })),
    texts: Type.Optional(Type.Array(Type.String(), { description: 'a list of texts' })),
    images: Type.Optional(
      Type.Array(Type.String(), { description: 'a list of images: base64, data-URIs or URLs' }),
    ),
    inputs: Type.Optional(
      Type.Array(Type.Unknown(), { description: 'a list of {content: [parts]}' }),
    ),
    embedding_types: Type.Optional(
      Type.Array(Type.Unsafe<VectorFormat>(words(...VECTOR_FORMATS)), {
        description: 'a list of "float", "base64", "binary" or "ubinary"',
      }),
    ),
    output_dimension: Type.Optional(
      Type.Integer({ description: 'the number of values of the bundle' }),
    ),
  },
  { title: 'CohereEmbedBody', description: 'an object with texts, images or inputs' },
)
type EmbedBody = Static<typeof EmbedBody>

const Vectors = Type.Array(Vector)

const EmbedReply = Type.Object(
  {
    id: Type.String(),
    response_type: words('embeddings_floats', 'embeddings_by_type'),
    embeddings: Type.Unsafe<object>({
      anyOf: [
        Vectors,
        {
          type: 'object',
          properties: Object.fromEntries(VECTOR_FORMATS.map((name) => [name, Vectors])),
        },
      ],
    }),
    texts: Type.Array(Type.String()),
    meta: Type.Object({
      api_version: Type.Object({ version: Type.String() }),
      billed_units: Type.Object({ input_tokens: Type.Integer(), images: Type.Integer() }),
    }),
  },
  { title: 'CohereEmbedReply', description: 'Embeddings in the order of the inputs' },
)

const routes: DialectRoutes = (app, options) => {
  const { retrieval } = options

  for (const version of ['1', '2'])
    app.post(
      `/v${version}/embed`,
      {
        config: { scope: 'read', errors: ['model_not_found', ...inputErrors] },
        schema: {
          tags: ['clients'],
          summary: 'Embed texts and images, as Cohere does',
          body: EmbedBody,
          // Written by the handler, as JSON.
          response: { 200: Type.Unsafe<string>(EmbedReply) },
        },
      },
      async (request, reply) => {
        const { body } = request
        checkModel(body.model, retrieval)
        checkDimensions(body.output_dimension, 'output_dimension', retrieval)
        const { name, contents } = contentsIn(body)
        const names = { name, nameOf: (at: number): string => `${name}[${at}]` }
        const { vectors } = await vectorsOf(contents, names, options, request, reply)
        reply.type('application/json; charset=utf-8')
        const rowsAs = (format: VectorFormat): string =>
          `[${vectors.map((vector) => vectorText(vector, format)).join()}]`
        // Version 1 has a list where no types are named.
        const isList = version === '1' && body.embedding_types === undefined
        const types = [...new Set(body.embedding_types ?? ['float' as const])]
        const byType = types.map((format) => `"${format}":${rowsAs(format)}`)
        const head = JSON.stringify({
          id: request.id,
          response_type: isList ? 'embeddings_floats' : 'embeddings_by_type',
          texts: body.texts ?? [],
          meta: {
            api_version: { version },
            billed_units: { input_tokens: 0, images: 0 },
          },
        })
        const embeddings = isList ? rowsAs('float') : `{${byType.join()}}`
        return `${head.slice(0, -1)},"embeddings":${embeddings}}`
      },
    )
}

/** @throws TandemError invalid_request unless there is exactly one of texts, images and inputs */
function contentsIn({ texts, images, inputs }: EmbedBody): { name: string; contents: Content[] } {
  const lists = Object.entries({
    texts: texts?.map((text) => ({ text })),
    images: images?.map((image) => ({ image })),
    inputs,
  }).filter(([, list]) => list !== undefined && list.length > 0)
  const [first] = lists
  if (first !== undefined && lists.length === 1) {
    const [name, list] = first
    return { name, contents: contentsOf(list, name) }
  }
  const given = lists.length === 0 ? 'none of them' : lists.map(([name]) => name).join(' and ')
  throw new TandemError(
    'invalid_request',
    `The request takes exactly one of texts, images and inputs, with at least one entry; the body has ${given}.`,
  )
}

export const dialect: Dialect = { routes, errorMembers: errorAndMessage }
