/** Texts and images of a request, read within the limits of the service. */
import type { FastifyRequest } from 'fastify'
import { TandemError } from '../../errors.js'
import type { Input, Query, Retrieval } from '../../retrieval/retrieval.js'
import { LongStrings } from '../json/long-strings.js'

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

/** Reads the inputs of one request. `name` is the place of a value in errors: "inputs[2].image". */
export class InputReader {
  readonly #limits: InputLimits
  readonly #fetch: FetchImage
  /** The images behind URLs may together be as large as a body. */
  readonly #budget: { bytes: number }
  readonly #failed = new AbortController()
  readonly #signals: AbortSignal[]
  readonly #longStrings: LongStrings

  constructor(
    { limits, fetchImage }: Omit<InputOptions, 'retrieval'>,
    {
      call,
      longStrings = LongStrings.none,
    }: Partial<Pick<FastifyRequest, 'call' | 'longStrings'>> = {},
  ) {
    const signal = call?.signal
    this.#longStrings = longStrings
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
    return limitedText(text, name, this.#limits.maxTextChars, this.#longStrings)
  }

  /**
   * The bytes of an image given as base64, data-URI or URL.
   *
   * @throws TandemError invalid_request, or what the fetch throws; the other fetches of the request
   *   are aborted then
   */
  async image(value: string, name: string): Promise<Uint8Array> {
    const image = this.#longStrings.imageIn(value)
    if (typeof image === 'string') throw new TandemError('invalid_request', `${name} ${image}`)
    if (image !== null) return image
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
export function limitedText(
  text: string,
  name: string,
  most: number,
  longStrings = LongStrings.none,
): string {
  if (text.length <= most) return text
  const length = longStrings.charsIn(text)
  if (length <= most) return text
  throw new TandemError('text_too_long', { name, length, most })
}
