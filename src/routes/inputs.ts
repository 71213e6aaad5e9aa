/** From what a request carries to what the pipeline takes: pictures as bytes, texts within their limit. */
import { TandemError } from '../errors.js'
import type { Input, Query } from '../retrieval.js'

/** Limits that come from the settings. */
export interface InputLimits {
  maxTextChars: number
  maxBatchItems: number
  maxBodyBytes: number
}

/** Inputs to encode beyond so many are bulk: they wait for what is smaller. */
export const MOST_INTERACTIVE = 8

const DATA_URI = /^data:([^;,]*)((?:;[^;,]*)*),/i
const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}\s*$/

/**
 * The bytes of a picture written as base64 or as a data-URI.
 *
 * @param name - how an error names the value, such as "inputs[2].image"
 */
export function imageBytes(value: string, name: string): Uint8Array {
  const prefix = DATA_URI.exec(value)
  if (prefix !== null && !/;base64$/i.test(prefix[2] ?? '')) {
    throw new TandemError(
      'invalid_request',
      `${name} is a data-URI that is not base64; expected data:image/jpeg;base64,…`,
    )
  }
  if (/^https?:/i.test(value)) {
    throw new TandemError(
      'invalid_request',
      `${name} is a URL, and URLs are not fetched; expected the picture as base64 or as a data-URI.`,
    )
  }
  const base64 = prefix === null ? value : value.slice(prefix[0].length)
  if (!BASE64.test(base64)) throw new TandemError('invalid_request', `${name} is not valid base64.`)
  const bytes = Buffer.from(base64, 'base64')
  if (bytes.length === 0) throw new TandemError('invalid_request', `${name} is an empty picture.`)
  return bytes
}

/** A text within the limit, which counts Unicode characters. */
export function limitedText(text: string, name: string, { maxTextChars }: InputLimits): string {
  if (text.length <= maxTextChars) return text
  const length = [...text].length
  if (length <= maxTextChars) return text
  throw new TandemError('text_too_long', `${name} has ${length} characters; expected at most ${maxTextChars}.`)
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
export function inputOf(given: { text?: string; image?: string }, name: string, limits: InputLimits): Input {
  if (given.text !== undefined) return { text: limitedText(given.text, `${name}.text`, limits) }
  return { image: imageBytes(given.image ?? '', `${name}.image`) }
}

/** A string, `{text}`, `{image}` or `{id}` as the pipeline takes it. */
export function queryOf(
  given: string | { text?: string; image?: string; id?: string },
  name: string,
  limits: InputLimits,
): Query {
  if (typeof given === 'string') return { text: limitedText(given, name, limits) }
  return given.id === undefined ? inputOf(given, name, limits) : { id: given.id }
}
