/** Turns queries, documents and inputs into embeddings and tokens. */
import { withSignals } from '../async/signals.js'
import type { Collection, Item, Lease } from '../collection/collection.js'
import { TandemError } from '../errors.js'
import type { Call, EncodedImage, EncodedText } from '../model/models.js'
import { isUnit } from '../vector-index/normalise.js'
import type { Tokenised } from './image-tokens.js'
import { longest, timed, type Timed } from './stage-clock.js'

/** A text, or the bytes of an image file. */
export type Input = { text: string } | { image: Uint8Array }
/** A text, an image, or the id of a stored item. */
export type Query = Input | { id: string }

/** An encoded query or document: a text, or the part of an image that scoring needs. */
export type Encoded =
  | { kind: 'text'; text: EncodedText; embedding: Float32Array }
  | ({ kind: 'image'; embedding: Float32Array } & Tokenised)

/**
 * Encodes queries and keeps their order. Reads stored items instead of encoding them again. Texts
 * go to the model in one call, images one by one (its batcher joins them), so that an error can
 * name its image.
 *
 * @param nameOf - names the query at a position in errors, such as "inputs[3]"; '' for no name
 * @throws TandemError item_not_found, or what the model throws
 */
export async function encodeAll(
  { models, items }: Lease,
  queries: readonly Query[],
  call?: Call,
  nameOf: (at: number) => string = () => '',
): Promise<Timed<Encoded[]>> {
  const needsImages = models.encodeTokens !== undefined && call?.embeddingOnly !== true
  const { value, ...time } = await timed(
    'encode',
    async () => {
      const ids = queries.flatMap((query) => ('id' in query ? [query.id] : []))
      const stored = ids.length === 0 ? [] : await storedItems(items, ids, call)
      const files = needsImages
        ? await Promise.all(ids.map(async (id) => (await items.image(id, call)) ?? noItem(id)))
        : []
      const texts = queries.flatMap((query) => ('text' in query ? [query.text] : []))
      const encodeNew = async (signal?: AbortSignal) => {
        const each = { ...call, signal }
        const encodedTexts =
          texts.length > 0 ? models.encodeTexts(texts, each) : { encoded: [], timings: {} }
        const encodedImages = queries.flatMap((query, at) => {
          if (!('image' in query)) return []
          return models.encodeImages([query.image], each).catch((error: unknown) => {
            throw named(error, nameOf(at))
          })
        })
        const [text, images] = await Promise.all([encodedTexts, Promise.all(encodedImages)])
        return { stored, files, text, images }
      }
      // One query starts nothing in parallel, so a search needs no signal of its own.
      return queries.length === 1 ? encodeNew(call?.signal) : withSignals([call?.signal], encodeNew)
    },
    ({ text, images }) => longest([text.timings, ...images.map((image) => image.timings)]),
  )
  const nextStored = value.stored.values()
  const nextFile = value.files.values()
  const nextText = value.text.encoded.values()
  const nextImage = value.images.flatMap(({ encoded }) => encoded).values()
  const encoded = queries.map((query): Encoded => {
    if ('text' in query) {
      const text = present(nextText.next().value)
      return { kind: 'text', text, embedding: text.embedding }
    }
    if ('id' in query) {
      const { imageTokens, embedding } = present(nextStored.next().value)
      const image = needsImages ? { image: present(nextFile.next().value) } : {}
      return { kind: 'image', imageTokens, embedding, ...image }
    }
    const { imageTokens, embedding, image: stored } = present(nextImage.next().value)
    return { kind: 'image', imageTokens, embedding, ...(needsImages && { image: stored.bytes }) }
  })
  return { value: encoded, ...time }
}

/**
 * Encodes an image to store with the bundle that serves now; returns that bundle's fingerprint too.
 * @throws Error for an embedding that no collection takes
 */
export async function encodeImage(
  collection: Collection,
  bytes: Uint8Array,
  call?: Call,
): Promise<Timed<{ fingerprint: string; image: EncodedImage }>> {
  using lease = collection.acquire()
  const { models } = lease
  const { value, ...time } = await timed(
    'encode',
    () => models.encodeImages([bytes], call),
    (encoded) => encoded.timings,
  )
  const image = present(value.encoded[0])
  if (!isUnit(image.embedding)) throw new Error('the model gave an embedding without length 1')
  return { value: { fingerprint: models.info.fingerprint, image }, ...time }
}

/** @throws TandemError item_not_found, always */
export function noItem(id: string): never {
  throw new TandemError('item_not_found', { id })
}

/** @throws Error for undefined: the model or the collection returned fewer results than inputs */
export function present<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error('fewer results than inputs')
  return value
}

/** @throws TandemError item_not_found */
async function storedItems(
  items: Lease['items'],
  ids: readonly string[],
  call?: Call,
): Promise<Item[]> {
  const stored = await items.getMany(ids, call)
  return stored.map((item, at) => item ?? noItem(present(ids[at])))
}

/** The error with the name of the input that it belongs to. */
function named(error: unknown, name: string): unknown {
  return error instanceof TandemError && name !== '' ? error.about(name) : error
}
