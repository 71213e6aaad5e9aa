/** Turns queries, documents and inputs into embeddings and tokens. */
import { isUnit, type Collection, type Item, type Visit } from '../collection/collection.js'
import { TandemError } from '../errors.js'
import type { Call, EncodedImage, EncodedText } from '../model/models.js'
import { longest, type StageClock } from './stage-clock.js'

/** A text, or the bytes of an image file. */
export type Input = { text: string } | { image: Uint8Array }
/** What can be asked or scored: a text, an image, or the id of a stored item. */
export type Query = Input | { id: string }

/** After encoding: a text, or the part of an image that scoring needs. */
export type Encoded =
  | { kind: 'text'; text: EncodedText; embedding: Float32Array }
  | { kind: 'image'; imageTokens: Int8Array; embedding: Float32Array }

/** @throws TandemError item_not_found, always */
export function noItem(id: string): never {
  throw new TandemError('item_not_found', `There is no item with the id "${id}".`)
}

/** @throws TandemError item_not_found */
async function storedItems({ items }: Visit, ids: readonly string[], call?: Call): Promise<Item[]> {
  const found = await items.getMany(ids, call)
  return found.map((item, at) => item ?? noItem(given(ids[at])))
}

/** An image that cannot be read is reported by its place in the request, as `name` gives it. */
function named(error: unknown, name: string): unknown {
  if (!(error instanceof TandemError) || name === '') return error
  return new TandemError(error.code, `${name}: ${error.message}`, {
    cause: error,
    ...retryOf(error),
  })
}

function retryOf({ retryAfterS }: TandemError): { retryAfterS?: number } {
  return retryAfterS === undefined ? {} : { retryAfterS }
}

/**
 * Encodes all, in the order given. Stored items are not encoded again. Texts go to the model
 * together, images one by one (its batcher joins them), so that an error can name the image it
 * belongs to.
 *
 * @param nameOf - how an error names the query at a position, such as "inputs[3]"; '' for none
 */
export async function encodeAll(
  visit: Visit,
  queries: readonly Query[],
  clock: StageClock,
  call?: Call,
  nameOf: (at: number) => string = () => '',
): Promise<Encoded[]> {
  return clock.time('encode', async () => {
    const { models } = visit
    const ids = queries.flatMap((query) => ('id' in query ? [query.id] : []))
    // Where none is named, what is to be encoded waits for nothing.
    const nextStored = (ids.length === 0 ? [] : await storedItems(visit, ids, call)).values()
    const texts = queries.flatMap((query) => ('text' in query ? [query.text] : []))
    // One alone has no others that would be for nothing.
    const { signal, failed } =
      queries.length > 1 ? together(call?.signal) : { signal: call?.signal, failed: rethrow }
    const each = { ...call, signal }
    const encodedTexts =
      texts.length > 0 ? models.encodeTexts(texts, each) : { encoded: [], timings: {} }
    const encodedImages = queries.flatMap((query, at) => {
      if (!('image' in query)) return []
      return models.encodeImages([query.image], each).catch((error: unknown) => {
        throw named(error, nameOf(at))
      })
    })
    const [text, images] = await Promise.all([encodedTexts, Promise.all(encodedImages)]).catch(
      failed,
    )
    clock.add(longest([text.timings, ...images.map(({ timings }) => timings)]))
    const nextText = text.encoded.values()
    const nextImage = images.flatMap(({ encoded }) => encoded).values()
    return queries.map((query): Encoded => {
      if ('text' in query) {
        const found = given(nextText.next().value)
        return { kind: 'text', text: found, embedding: found.embedding }
      }
      const { imageTokens, embedding } = given(
        ('id' in query ? nextStored : nextImage).next().value,
      )
      return { kind: 'image', imageTokens, embedding }
    })
  })
}

function rethrow(error: unknown): never {
  throw error
}

/**
 * A signal that fires with the given one, and when one of several calls has failed: the others are
 * then for nothing.
 */
function together(outer: AbortSignal | undefined): {
  signal: AbortSignal
  failed: (error: unknown) => never
} {
  const controller = new AbortController()
  const onAbort = (): void => controller.abort(outer?.reason)
  if (outer?.aborted === true) onAbort()
  outer?.addEventListener('abort', onAbort, { once: true })
  const failed = (error: unknown): never => {
    controller.abort(error)
    throw error
  }
  return { signal: controller.signal, failed }
}

/**
 * One image to be stored, encoded by the bundle that serves at this moment, with the fingerprint of
 * that bundle.
 * @throws Error for an embedding that no collection takes
 */
export async function encodeImage(
  collection: Collection,
  bytes: Uint8Array,
  clock: StageClock,
  call?: Call,
): Promise<{ fingerprint: string; encoded: EncodedImage }> {
  using visit = collection.enter()
  const { models } = visit
  const { encoded, timings } = await clock.time('encode', () => models.encodeImages([bytes], call))
  clock.add(timings)
  const [image] = encoded
  if (!isUnit(given(image).embedding))
    throw new Error('the model gave an embedding without length 1')
  return { fingerprint: models.info.fingerprint, encoded: given(image) }
}

/** A room answers with one result for each input; anything else is a fault of that room. */
export function given<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error('a room gave fewer results than it was asked for')
  return value
}
