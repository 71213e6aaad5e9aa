/** From what a request carries to what the pipeline takes: texts and images within their limits. */
import { TandemError } from '../../errors.js'
import type { Input, Query, Retrieval } from '../../retrieval/retrieval.js'
import type { FetchImage, Images } from './image-source.js'

/** Limits that come from the settings. */
export interface InputLimits {
  maxTextChars: number
  maxBatchItems: number
  maxBodyBytes: number
}

/** Inputs to encode beyond so many are bulk: they wait for what is smaller. */
export const MOST_INTERACTIVE = 8

/** What a route that takes texts and images is registered with. */
export interface InputOptions {
  retrieval: Retrieval
  limits: InputLimits
  fetchImage: FetchImage
}

/** A text within the limit, which counts Unicode characters. */
export function limitedText(text: string, name: string, { maxTextChars }: InputLimits): string {
  if (text.length <= maxTextChars) return text
  const length = [...text].length
  if (length <= maxTextChars) return text
  throw new TandemError(
    'text_too_long',
    `${name} has ${length} characters; expected at most ${maxTextChars}.`,
  )
}

/** @throws TandemError batch_too_large */
export function limitBatch(count: number, name: string, { maxBatchItems }: InputLimits): void {
  if (count <= maxBatchItems) return
  throw new TandemError(
    'batch_too_large',
    `${name} has ${count} entries; expected at most ${maxBatchItems} in one request.`,
  )
}

/** `{text}` or `{image}` as the pipeline takes it. */
export async function inputOf(
  given: { text?: string; image?: string },
  name: string,
  limits: InputLimits,
  images: Images,
): Promise<Input> {
  if (given.text !== undefined) return { text: limitedText(given.text, `${name}.text`, limits) }
  return { image: await images.read(given.image ?? '', `${name}.image`) }
}

/** A string, `{text}`, `{image}` or `{id}` as the pipeline takes it. */
export async function queryOf(
  given: string | { text?: string; image?: string; id?: string },
  name: string,
  limits: InputLimits,
  images: Images,
): Promise<Query> {
  if (typeof given === 'string') return { text: limitedText(given, name, limits) }
  return given.id === undefined ? inputOf(given, name, limits, images) : { id: given.id }
}
