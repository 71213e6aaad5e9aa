/**
 * Looks after the encoder: what it serves, and whether it is there. While it is not, calls are
 * refused at once instead of each waiting for itself; those under way are given up.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Ajv } from 'ajv'
import { TandemError } from '../../errors.js'
import type { ModelInfo } from '../models.js'
import type { Report, WorkerStatus } from '../../worker/worker-process.js'
import type { Connection } from './connection.js'
import { EncoderReply } from './protocol.js'
import { unavailable } from './refusal.js'

const EVERY_MS = 1000
/**
 * After a failure it is looked at sooner, and is away with the third one in a row: one connection
 * may break anywhere.
 */
const AFTER_FAILURE_MS = 250
const FAILURES = 3

const validate = new Ajv({ strict: false }).compile<EncoderReply>(EncoderReply)

export class Watch {
  #info: ModelInfo
  #failures = 0
  #returns = 0
  /** Why it is away; null while it is there. */
  #away: TandemError | null = null
  /** Fires when it goes away. */
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
    this.#lookLater(EVERY_MS)
  }

  /**
   * @param waitMs - how long an encoder that is not there yet is waited for @throws Error with
   * the last reason
   */
  static async begin(
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
        if (!isPassing || performance.now() + AFTER_FAILURE_MS > until) throw error
        await sleep(AFTER_FAILURE_MS)
      }
    }
  }

  /** Of the bundle that was found first: another one is never taken in its host. */
  get info(): ModelInfo {
    return this.#info
  }

  /**
   * The signal of calls: it fires when the encoder goes away. @throws TandemError
   * `encoder_unavailable` while it is
   */
  present(): AbortSignal {
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

  #lookLater(ms: number): void {
    if (!this.#ended) this.#timer = setTimeout(() => void this.#look(), ms).unref()
  }

  async #look(): Promise<void> {
    const { host } = this.#connection
    try {
      const found = infoOf(await this.#connection.probe(), host)
      const { fingerprint } = this.#info
      if (found.fingerprint !== fingerprint) {
        throw unavailable(
          `The encoder at ${host} serves the bundle ${found.fingerprint} now; these items are of ${fingerprint}.`,
        )
      }
      this.#found(found)
      this.#lookLater(EVERY_MS)
    } catch (error) {
      this.#missed(error)
      this.#lookLater(AFTER_FAILURE_MS)
    }
  }

  #found(info: ModelInfo): void {
    this.#info = info
    this.#failures = 0
    if (this.#away === null) return
    this.#away = null
    this.#returns += 1
    this.#report(`The encoder at ${this.#connection.host} is there again.`)
  }

  #missed(error: unknown): void {
    const { host } = this.#connection
    this.#failures += 1
    if (this.#failures < FAILURES || this.#ended) return
    const { message } = error as Error
    const sentence = /^The encoder/.test(message)
      ? message
      : `The encoder at ${host} cannot be used: ${message}`
    if (this.#away === null) this.#report(sentence)
    this.#away = unavailable(sentence, error)
    this.#lost.abort(
      new TandemError(
        'encoder_timeout',
        `The encoder did not answer, and is away by now: ${sentence}`,
      ),
    )
    this.#lost = new AbortController()
  }
}

/** @throws TandemError `encoder_failed` */
function infoOf(said: unknown, host: string): ModelInfo {
  if (!validate(said)) {
    throw new TandemError(
      'encoder_failed',
      `What is at ${host} is no encoder that this version understands; it needs TANDEM_ROLE=encode.`,
    )
  }
  const {
    name,
    version,
    description,
    license,
    languages,
    fingerprint,
    dim,
    image_tokens,
    token_width,
    max_tokens,
    rerank,
  } = said
  return {
    name,
    version,
    description,
    license,
    languages,
    fingerprint,
    dim,
    imageTokens: image_tokens,
    tokenWidth: token_width,
    maxTokens: max_tokens,
    rerank,
  }
}
