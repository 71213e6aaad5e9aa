/**
 * The images that one request gives as strings: base64, data-URIs, and URLs where the service
 * fetches them.
 */
import { TandemError } from '../../errors.js'
import type { InputLimits } from './inputs.js'

/**
 * Fetches the image at a URL. All images of a request share a budget, which shrinks as bytes
 * arrive.
 */
export type FetchImage = (
  url: string,
  call: { name: string; budget: { bytes: number }; signal: AbortSignal },
) => Promise<Uint8Array>

const DATA_URI = /^data:([^;,]*)((?:;[^;,]*)*),/i
const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}\s*$/
const URL_BEGINNING = /^(?!data:)[a-z][a-z0-9+.-]{0,20}:/i

export class Images {
  readonly #fetch: FetchImage
  readonly #signal: AbortSignal | undefined
  /** Together they may be as large as a body that brings them along. */
  readonly #budget: { bytes: number }
  readonly #failed = new AbortController()

  constructor(fetch: FetchImage, { maxBodyBytes }: InputLimits, signal: AbortSignal | undefined) {
    this.#fetch = fetch
    this.#budget = { bytes: maxBodyBytes }
    this.#signal = signal
  }

  /**
   * The bytes of an image.
   *
   * @param name - how an error names the value, such as "inputs[2].image"
   * @throws TandemError invalid_request, or what fetching it meets; then the others of the request
   *   are given up too
   */
  async read(value: string, name: string): Promise<Uint8Array> {
    if (!URL_BEGINNING.test(value)) return imageBytes(value, name)
    const { signal } = this.#failed
    try {
      const either = this.#signal === undefined ? signal : AbortSignal.any([this.#signal, signal])
      return await this.#fetch(value, { name, budget: this.#budget, signal: either })
    } catch (error) {
      this.#failed.abort(error)
      throw error
    }
  }
}

function imageBytes(value: string, name: string): Uint8Array {
  const prefix = DATA_URI.exec(value)
  if (prefix !== null && !/;base64$/i.test(prefix[2] ?? '')) {
    throw new TandemError(
      'invalid_request',
      `${name} is a data-URI that is not base64; expected data:image/jpeg;base64,…`,
    )
  }
  const base64 = prefix === null ? value : value.slice(prefix[0].length)
  if (!BASE64.test(base64)) throw new TandemError('invalid_request', `${name} is not valid base64.`)
  const bytes = Buffer.from(base64, 'base64')
  if (bytes.length === 0) throw new TandemError('invalid_request', `${name} is an empty image.`)
  return bytes
}
