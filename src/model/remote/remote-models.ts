/**
 * DOOR of remote models: the models of another service, one that encodes (TANDEM_ROLE=encode), as
 * if they were here.
 *
 * Calls carry the deadline, the trace and the cancellation of the request that they belong to.
 * Every call and every answer names the fingerprint of the bundle: an encoder that serves another
 * one by now is refused, so that what two bundles made is never mixed.
 */
import {
  askImages,
  askMatch,
  askTexts,
  imagesAnswered,
  matchAnswered,
  mostBytes,
  textsAnswered,
} from './protocol.js'
import type {
  Call,
  EncodedImage,
  EncodedText,
  Match,
  ModelInfo,
  Models,
  Pair,
  StageTimings,
} from '../models.js'
import { splitComparison } from '../encoders/comparison.js'
import { Connection, type Question } from './connection.js'
import { withSignals } from '../../async/signals.js'
import { Watch } from './watch.js'
import { Limiter } from '../../async/limiter.js'
import type { Report, WorkerStatus } from '../../worker/worker-process.js'

export interface RemoteModelsOptions {
  /** Address of the service that encodes, without a path. */
  url: string
  /** By which it knows this service; it is sent and never shown. */
  apiKey?: string | undefined
  /** For one call on behalf of a request that has no deadline, in milliseconds. */
  timeoutMs: number
  /** How long an encoder that is not there yet is waited for at the start, in milliseconds. */
  waitMs?: number
  /** Told when the encoder goes away and comes back, for the log. */
  report?: Report
}

/** Tokens of one call; a body of the encoder may have five times as much by default. */
const MAX_TOKEN_BYTES = 4 * 2 ** 20
const WAIT_MS = 30_000
/**
 * Bulk calls under way at a time: as many as one stream of images has. Searches do not wait for
 * them.
 */
const BULK_AT_A_TIME = 16

/**
 * Connects to the encoder and learns which bundle it serves, which is the one that counts from then
 * on.
 * @throws Error with a sentence fit for a terminal where it is not to be reached, refuses, or
 *   speaks another language
 */
export async function openRemoteModels(options: RemoteModelsOptions): Promise<Models> {
  const { url, apiKey, timeoutMs, waitMs = WAIT_MS, report = () => undefined } = options
  const connection = new Connection({ url, apiKey, timeoutMs })
  try {
    const watch = await Watch.begin(connection, waitMs, report)
    return new RemoteModels(connection, watch)
  } catch (error) {
    connection.close()
    throw error
  }
}

class RemoteModels implements Models {
  readonly #connection: Connection
  readonly #watch: Watch
  readonly #bulk = new Limiter(BULK_AT_A_TIME)
  #inFlight = 0

  constructor(connection: Connection, watch: Watch) {
    this.#connection = connection
    this.#watch = watch
  }

  get info(): ModelInfo {
    return this.#watch.info
  }

  encodeTexts(
    texts: readonly string[],
    call: Call = {},
  ): Promise<{ encoded: EncodedText[]; timings: StageTimings }> {
    if (texts.length === 0) return Promise.resolve({ encoded: [], timings: {} })
    const { info } = this
    return this.#ask(call, () => ({
      path: '/encoder/texts',
      frame: askTexts(texts, info, call),
      most: mostBytes('texts', texts.length, info),
      read: (frame) => textsAnswered(frame, texts.length, info),
    }))
  }

  encodeImages(
    images: readonly Uint8Array[],
    call: Call = {},
  ): Promise<{ encoded: EncodedImage[]; timings: StageTimings }> {
    if (images.length === 0) return Promise.resolve({ encoded: [], timings: {} })
    const { info } = this
    return this.#ask(call, () => ({
      path: '/encoder/images',
      frame: askImages(images, info, call),
      most: mostBytes('images', images.length, info),
      read: (frame) => imagesAnswered(frame, images.length, info),
    }))
  }

  async match(
    texts: readonly EncodedText[],
    imageTokens: readonly Int8Array[],
    pairs: readonly Pair[],
    call: Call = {},
  ): Promise<{ matches: Match[]; timings: StageTimings }> {
    const { info } = this
    const answers = await withSignals([call.signal], (signal) =>
      Promise.all(
        splitComparison({ texts, imageTokens, pairs }, { bytes: MAX_TOKEN_BYTES }).map((part) =>
          this.#ask({ ...call, signal }, () => ({
            path: '/encoder/match',
            frame: askMatch(part, info, call),
            most: mostBytes('match', part.pairs.length, info),
            read: (frame) => matchAnswered(frame, part.pairs.length),
          })),
        ),
      ),
    )
    return {
      matches: answers.flatMap(({ matches }) => matches),
      timings: answers.at(-1)?.timings ?? {},
    }
  }

  /** Of this service's own calls; how busy the encoder is for others, it tells by itself. */
  stats(): { queueDepth: number; inFlight: number } {
    return { queueDepth: this.#bulk.waiting, inFlight: this.#inFlight }
  }

  get workers(): readonly WorkerStatus[] {
    return [this.#watch.status]
  }

  close(): Promise<void> {
    this.#watch.end()
    this.#connection.close()
    return Promise.resolve()
  }

  /** @param question - made when its turn has come: it holds a copy of all that is sent */
  async #ask<Answer>(
    call: Call,
    question: () => Omit<Question<Answer>, 'fingerprint'>,
  ): Promise<Answer> {
    this.#watch.present()
    const now = (): Promise<Answer> => this.#askNow(call, question)
    return call.priority === 'bulk' ? this.#bulk.run(now, { signal: call.signal }) : now()
  }

  async #askNow<Answer>(
    call: Call,
    question: () => Omit<Question<Answer>, 'fingerprint'>,
  ): Promise<Answer> {
    this.#inFlight += 1
    try {
      const { fingerprint } = this.info
      return await withSignals([call.signal, this.#watch.present()], (signal) =>
        this.#connection.ask({ ...question(), fingerprint }, { ...call, signal }),
      )
    } finally {
      this.#inFlight -= 1
    }
  }
}
