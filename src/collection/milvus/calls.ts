/**
 * How Milvus is called: within a time limit, again where the connection was lost, and not at all
 * while it is away.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Asker } from './milvus.js'
import { Backoff } from '../../async/backoff.js'
import { within } from '../../async/signals.js'
import { Breaker, type BreakerState } from './breaker.js'
import { EngineFailure, failureOf, problemOf, type FailureKind } from './failure.js'

/** How the engine is, for health and metrics. */
export interface EngineStatus {
  readonly name: string
  /** Of the breaker: calls are refused unless it is closed. */
  readonly state: BreakerState
  /** How often the breaker has opened. */
  readonly opened: number
  /** Calls that were made again. */
  readonly retries: number
  /** Calls that failed, those that were made again included. */
  readonly failures: Readonly<Record<FailureKind, number>>
}

export interface CallsOptions {
  /** For one call with its retries, where the asker has no less. */
  timeoutMs: number
  /** Makes the collection ready to be searched. */
  load: (timeoutMs: number) => Promise<void>
  report: (sentence: string) => void
}

const MOST_ATTEMPTS = 4
const FIRST_PAUSE_MS = 40
const FAILURES_TO_OPEN = 5
const FIRST_PROBE_MS = 500
const LONGEST_PROBE_PAUSE_MS = 8000

export class Calls {
  readonly #options: CallsOptions
  readonly #breaker: Breaker
  readonly #failures: Record<FailureKind, number> = {
    unavailable: 0,
    timeout: 0,
    released: 0,
    failed: 0,
  }
  #retries = 0
  #loading: Promise<void> | undefined

  constructor(options: CallsOptions) {
    this.#options = options
    this.#breaker = new Breaker({
      failures: FAILURES_TO_OPEN,
      firstPauseMs: FIRST_PROBE_MS,
      longestPauseMs: LONGEST_PROBE_PAUSE_MS,
      probe: () => this.#load(options.timeoutMs),
      onChange: (state) =>
        options.report(
          state === 'open'
            ? 'Milvus does not answer: it is left alone, but for a try now and then.'
            : 'Milvus answers again.',
        ),
    })
  }

  get status(): EngineStatus {
    const { state, opened } = this.#breaker
    return {
      name: 'milvus',
      state,
      opened,
      retries: this.#retries,
      failures: { ...this.#failures },
    }
  }

  /**
   * What `ask` resolves to. It is asked again where that may help: it has to be something that may
   * be done twice.
   * @param ask - is given the milliseconds that are left; it may go on in the background when
   *   nobody waits any longer
   * @throws TandemError `engine_unavailable`, `engine_timeout`, `engine_failed`; the reason of the
   *   signal
   */
  async call<Answer>(
    ask: (timeoutMs: number) => Promise<Answer>,
    { signal, deadline }: Asker = {},
  ): Promise<Answer> {
    signal?.throwIfAborted()
    const limit = Math.min(
      this.#options.timeoutMs,
      deadline === undefined ? Infinity : deadline - performance.now(),
    )
    const until = performance.now() + limit
    const backoff = new Backoff(FIRST_PAUSE_MS)
    for (let attempt = 1; ; attempt += 1) {
      this.#refuseWhileOpen(limit)
      try {
        const answer = await waited(ask, until - performance.now(), signal)
        this.#breaker.succeeded()
        return answer
      } catch (error) {
        signal?.throwIfAborted()
        const failure = failureOf(error)
        this.#count(failure, limit)
        const wait = backoff.jitteredMs
        const again = ['unavailable', 'released'].includes(failure.kind) && attempt < MOST_ATTEMPTS
        if (!again || performance.now() + wait >= until)
          throw problemOf(failure, limit, this.#breaker.retryAfterS)
        this.#retries += 1
        backoff.double()
        if (failure.kind === 'released')
          await this.#load(until - performance.now()).catch(() => undefined)
        else
          await pause(wait, undefined, signal === undefined ? {} : { signal }).catch(() =>
            signal?.throwIfAborted(),
          )
      }
    }
  }

  end(): void {
    this.#breaker.end()
  }

  #refuseWhileOpen(limit: number): void {
    const { state, retryAfterS } = this.#breaker
    if (state !== 'closed')
      throw problemOf(new EngineFailure('unavailable', 'the breaker is open'), limit, retryAfterS)
  }

  #count(failure: EngineFailure, limit: number): void {
    this.#failures[failure.kind] += 1
    // An asker in a hurry says nothing about the engine.
    const isSlow = failure.kind === 'timeout' && limit >= this.#options.timeoutMs
    if (isSlow || failure.kind === 'unavailable') this.#breaker.failed()
    else if (failure.kind === 'failed') this.#breaker.succeeded()
  }

  /** One at a time: many calls find out at once that the collection is not loaded. */
  #load(timeoutMs: number): Promise<void> {
    this.#loading ??= waited(this.#options.load, timeoutMs).finally(() => {
      this.#loading = undefined
    })
    return this.#loading
  }
}

/**
 * @throws EngineFailure `timeout` after `limitMs`; the reason of the signal. What was asked goes on
 * without its asker
 */
async function waited<Answer>(
  ask: (timeoutMs: number) => Promise<Answer>,
  limitMs: number,
  signal?: AbortSignal,
): Promise<Answer> {
  if (limitMs <= 0) throw new EngineFailure('timeout', 'no time is left')
  const ms = Math.ceil(limitMs)
  return within(
    ms,
    signal,
    () => new EngineFailure('timeout', `no answer within ${ms} ms`),
    () => ask(ms),
  )
}
