/**
 * Health check of the encoder. While the encoder is away, calls are refused at once instead of each
 * running into its time limit; calls in progress are cancelled.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Ajv } from 'ajv'
import { TandemError } from '../../errors.js'
import type { ModelInfo } from '../models.js'
import type { Report, WorkerStatus } from '../../worker/worker-process.js'
import type { Connection } from './connection.js'
import { EncoderReply } from './protocol.js'
import { unavailable } from './refusal.js'

const INTERVAL_MS = 1000
const INTERVAL_AFTER_FAILURE_MS = 250
/** Failures in a row until the encoder counts as away; a single connection may break. */
const FAILURES = 3

/** Compiles the schema at its first use. */
const ajv = new Ajv({ strict: false })

export class Watch {
  #info: ModelInfo
  #failures = 0
  #returns = 0
  /** Why the encoder is away; null while it is available. */
  #away: TandemError | null = null
  /** Aborts when the encoder goes away. */
  #lost = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #ended = false
  readonly #connection: Pick<Connection, 'probe' | 'host'>
  readonly #report: Report

  private constructor(
    connection: Pick<Connection, 'probe' | 'host'>,
    info: ModelInfo,
    report: Report,
  ) {
    this.#connection = connection
    this.#info = info
    this.#report = report
    this.#checkLater(INTERVAL_MS)
  }

  /**
   * @param waitMs - how long to wait for an encoder that is not available yet
   * @throws Error with the last reason
   */
  static async start(
    connection: Pick<Connection, 'probe' | 'host'>,
    waitMs: number,
    report: Report,
  ): Promise<Watch> {
    const until = performance.now() + waitMs
    for (;;) {
      try {
        return new Watch(connection, infoOf(await connection.probe(), connection.host), report)
      } catch (error) {
        const isPassing = error instanceof TandemError && error.code === 'encoder_unavailable'
        if (!isPassing || performance.now() + INTERVAL_AFTER_FAILURE_MS > until) throw error
        await sleep(INTERVAL_AFTER_FAILURE_MS)
      }
    }
  }

  /** Of the first bundle; an encoder with another fingerprint is refused. */
  get info(): ModelInfo {
    return this.#info
  }

  /**
   * A signal for calls, which aborts when the encoder goes away.
   * @throws TandemError `encoder_unavailable` while it is away
   */
  available(): AbortSignal {
    if (this.#away !== null) throw this.#away
    return this.#lost.signal
  }

  get status(): WorkerStatus {
    return { name: 'encoder', pid: null, ready: this.#away === null, restarts: this.#returns }
  }

  end(): void {
    this.#ended = true
    clearTimeout(this.#timer)
  }

  #checkLater(ms: number): void {
    if (!this.#ended) this.#timer = setTimeout(() => void this.#check(), ms).unref()
  }

  async #check(): Promise<void> {
    const { host } = this.#connection
    try {
      const info = infoOf(await this.#connection.probe(), host)
      const { fingerprint } = this.#info
      if (info.fingerprint !== fingerprint) {
        throw unavailable(
          `The encoder at ${host} serves the bundle ${info.fingerprint} now; these items are of ${fingerprint}.`,
        )
      }
      this.#onSuccess(info)
      this.#checkLater(INTERVAL_MS)
    } catch (error) {
      this.#onFailure(error)
      this.#checkLater(INTERVAL_AFTER_FAILURE_MS)
    }
  }

  #onSuccess(info: ModelInfo): void {
    this.#info = info
    this.#failures = 0
    if (this.#away === null) return
    this.#away = null
    this.#returns += 1
    this.#report(`The encoder at ${this.#connection.host} is available again.`)
  }

  #onFailure(error: unknown): void {
    const { host } = this.#connection
    this.#failures += 1
    if (this.#failures < FAILURES || this.#ended) return
    const { message } = error as Error
    const sentence = /^The encoder/.test(message)
      ? message
      : `The encoder at ${host} cannot be used: ${message}`
    if (this.#away === null) this.#report(sentence)
    this.#away = unavailable(sentence, error)
    this.#lost.abort(new TandemError('encoder_timeout', `The encoder did not answer: ${sentence}`))
    this.#lost = new AbortController()
  }
}

/** @throws TandemError `encoder_failed` */
function infoOf(reply: unknown, host: string): ModelInfo {
  if (!ajv.validate<EncoderReply>(EncoderReply, reply)) {
    throw new TandemError(
      'encoder_failed',
      `The service at ${host} is not a compatible encoder; it needs TANDEM_ROLE=encode.`,
    )
  }
  const {
    name,
    version,
    description,
    license,
    commercial_use: commercialUse,
    calibrated = true,
    languages,
    text_encoders: textEncoders,
    fingerprint,
    dim,
    image_tokens,
    token_width,
    max_tokens,
    rerank,
  } = reply
  return {
    name,
    version,
    description,
    license,
    commercialUse,
    calibrated,
    languages,
    textEncoders,
    fingerprint,
    dim,
    imageTokens: image_tokens,
    tokenWidth: token_width,
    maxTokens: max_tokens,
    rerank,
  }
}
