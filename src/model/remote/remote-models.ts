/**
 * The models of another service (TANDEM_ROLE=encode) behind the contract of local ones.
 *
 * Calls carry the deadline, the trace and the cancellation of their request. Calls and replies name
 * the fingerprint of the bundle, so that embeddings of two bundles are never mixed.
 */
import {
  askImages,
  askMatch,
  askTexts,
  imagesAnswered,
  matchAnswered,
  maxReplyBytes,
  textsAnswered,
} from './protocol.js'
import type {
  Call,
  EncodedImage,
  EncodedText,
  Match,
  ModelInfo,
  Models,
  ModelStats,
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
  /** Address of the encoder without a path. */
  url: string
  /** Key for the encoder; never shown. */
  apiKey?: string | undefined
  /** Time limit of a call without a deadline, in milliseconds. */
  timeoutMs: number
  /** How long to wait at the start for an encoder that is not available, in milliseconds. */
  waitMs?: number
  /** Gets a sentence when the encoder goes away and comes back, for the log. */
  report?: Report
}

/** Tokens of one call; a body of the encoder may have five times as much by default. */
const MAX_TOKEN_BYTES = 4 * 2 ** 20
const WAIT_MS = 30_000
/** Bulk calls at a time: as many as one upload of many images makes. Searches are not limited. */
const BULK_CONCURRENCY = 16

/**
 * Connects to the encoder and fixes the bundle that it serves.
 * @throws Error, with a message for a terminal, when the encoder cannot be reached, refuses, or is
 *   not compatible
 */
export async function openRemoteModels(options: RemoteModelsOptions): Promise<Models> {
  const { url, apiKey, timeoutMs, waitMs = WAIT_MS, report = () => undefined } = options
  const connection = new Connection({ url, apiKey, timeoutMs })
  try {
    const watch = await Watch.start(connection, waitMs, report)
    return new RemoteModels(connection, watch)
  } catch (error) {
    connection.close()
    throw error
  }
}

class RemoteModels implements Models {
  readonly #connection: Connection
  readonly #watch: Watch
  readonly #bulk = new Limiter(BULK_CONCURRENCY)
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
      maxBytes: maxReplyBytes('texts', texts.length, info),
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
      maxBytes: maxReplyBytes('images', images.length, info),
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
            maxBytes: maxReplyBytes('match', part.pairs.length, info),
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

  /** Of the calls of this service alone. */
  stats(): ModelStats {
    return { queueDepth: this.#bulk.waiting, inFlight: this.#inFlight, batches: [] }
  }

  get workers(): readonly WorkerStatus[] {
    return [this.#watch.status]
  }

  close(): Promise<void> {
    this.#watch.end()
    this.#connection.close()
    return Promise.resolve()
  }

  /** @param question - made when the call starts, because it holds a copy of all its inputs */
  async #ask<Answer>(
    call: Call,
    question: () => Omit<Question<Answer>, 'fingerprint'>,
  ): Promise<Answer> {
    this.#watch.available()
    const now = (): Promise<Answer> => this.#askNow(call, question)
    const { priority, signal, client } = call
    return priority === 'bulk' ? this.#bulk.run(now, { signal, client }) : now()
  }

  async #askNow<Answer>(
    call: Call,
    question: () => Omit<Question<Answer>, 'fingerprint'>,
  ): Promise<Answer> {
    this.#inFlight += 1
    try {
      const { fingerprint } = this.info
      return await withSignals([call.signal, this.#watch.available()], (signal) =>
        this.#connection.ask({ ...question(), fingerprint }, { ...call, signal }),
      )
    } finally {
      this.#inFlight -= 1
    }
  }
}
