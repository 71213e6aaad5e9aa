/** Texts and images of a request, read within the limits of the service. */
import { TandemError } from '../../errors.js'
import type { Input, Query, Retrieval } from '../../retrieval/retrieval.js'

export interface InputLimits {
  maxTextChars: number
  maxBatchItems: number
  maxBodyBytes: number
}

/**
 * Fetches the image at a URL. The images of a request share `budget`, which shrinks as bytes
 * arrive.
 */
export type FetchImage = (
  url: string,
  call: { name: string; budget: { bytes: number }; signal: AbortSignal },
) => Promise<Uint8Array>

/** Options of a route that takes texts and images. */
export interface InputOptions {
  retrieval: Retrieval
  limits: InputLimits
  fetchImage: FetchImage
}

/** A request with more inputs to encode is bulk: interactive requests go first. */
export const MAX_INTERACTIVE = 8

const DATA = /^data:/i
const BASE64_MARK = ';base64'
const NOT_BASE64 = /[^A-Za-z0-9+/_=\s-]/u
const URL_START = /^(?!data:)[a-z][a-z0-9+.-]{0,20}:/i

/** Reads the inputs of one request. `name` is the place of a value in errors: "inputs[2].image". */
export class InputReader {
  readonly #limits: InputLimits
  readonly #fetch: FetchImage
  /** The images behind URLs may together be as large as a body. */
  readonly #budget: { bytes: number }
  readonly #failed = new AbortController()
  readonly #signals: AbortSignal[]

  /** @param signal - of the request */
  constructor({ limits, fetchImage }: Omit<InputOptions, 'retrieval'>, signal?: AbortSignal) {
    this.#limits = limits
    this.#fetch = fetchImage
    this.#budget = { bytes: limits.maxBodyBytes }
    this.#signals = [this.#failed.signal, ...(signal === undefined ? [] : [signal])]
  }

  /** @throws TandemError batch_too_large */
  checkCount(count: number, name: string): void {
    const { maxBatchItems } = this.#limits
    if (count <= maxBatchItems) return
    throw new TandemError(
      'batch_too_large',
      `${name} has ${count} entries; expected at most ${maxBatchItems} in one request.`,
    )
  }

  /** @throws TandemError text_too_long */
  text(text: string, name: string): string {
    return limitedText(text, name, this.#limits.maxTextChars)
  }

  /**
   * The bytes of an image given as base64, data-URI or URL.
   *
   * @throws TandemError invalid_request, or what the fetch throws; the other fetches of the request
   *   are aborted then
   */
  async image(value: string, name: string): Promise<Uint8Array> {
    if (!URL_START.test(value)) return imageBytes(value, name)
    try {
      const signal = AbortSignal.any(this.#signals)
      return await this.#fetch(value, { name, budget: this.#budget, signal })
    } catch (error) {
      this.#failed.abort(error)
      throw error
    }
  }

  async input(input: { text?: string; image?: string }, name: string): Promise<Input> {
    if (input.text !== undefined) return { text: this.text(input.text, `${name}.text`) }
    return { image: await this.image(input.image ?? '', `${name}.image`) }
  }

  async query(
    query: string | { text?: string; image?: string; id?: string },
    name: string,
  ): Promise<Query> {
    if (typeof query === 'string') return { text: this.text(query, name) }
    return query.id === undefined ? this.input(query, name) : { id: query.id }
  }
}

/** The text. The limit counts Unicode characters. @throws TandemError text_too_long */
export function limitedText(text: string, name: string, most: number): string {
  if (text.length <= most) return text
  const length = charsIn(text)
  if (length <= most) return text
  throw new TandemError('text_too_long', { name, length, most })
}

/** The Unicode characters of a text: a pair of surrogates is one. */
function charsIn(text: string): number {
  let pairs = 0
  for (let at = 0; at < text.length; at += 1) {
    if ((text.charCodeAt(at) & 0xfc00) !== 0xd800) continue
    if ((text.charCodeAt(at + 1) & 0xfc00) !== 0xdc00) continue
    pairs += 1
    at += 1
  }
  return text.length - pairs
}

function imageBytes(value: string, name: string): Uint8Array {
  const comma = DATA.test(value) ? value.indexOf(',') : -1
  if (
    comma !== -1 &&
    value.slice(0, comma).slice(-BASE64_MARK.length).toLowerCase() !== BASE64_MARK
  ) {
    throw new TandemError(
      'invalid_request',
      `${name} is a data-URI that is not base64; expected data:image/jpeg;base64,…`,
    )
  }
  const base64 = value.slice(comma + 1)
  const bytes = Buffer.from(base64, 'base64')
  // Decoding skips other characters, so its length tells of most texts that there are none.
  if (bytes.length !== lengthDecoded(base64)) refuseOther(base64, name)
  if (bytes.length === 0) throw new TandemError('invalid_request', `${name} is an empty image.`)
  return bytes
}

/**
 * The bytes that a text of base64 letters and padding alone decodes to. NaN where one letter more
 * or less decodes to as many.
 */
function lengthDecoded(base64: string): number {
  const letters = base64.length - (/={1,2}$/.exec(base64.slice(-2))?.[0].length ?? 0)
  return letters % 4 === 1 ? Number.NaN : Math.floor((letters * 3) / 4)
}

/** Refuses what is not base64. Line breaks are part of it, as in MIME. */
function refuseOther(base64: string, name: string): void {
  const other = NOT_BASE64.exec(base64)
  const padding = base64.indexOf('=')
  const end = padding === -1 ? '' : base64.slice(padding).replace(/\s+/g, '')
  if (other === null && /^={0,2}$/.test(end)) return
  const found =
    other === null
      ? `character ${padding} is "=", which belongs at the end`
      : `character ${other.index} is ${JSON.stringify(other[0])}`
  throw new TandemError('invalid_request', `${name} is not valid base64: ${found}.`)
}
