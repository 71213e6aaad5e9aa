import { setTimeout as pause } from 'node:timers/promises'
import { Backoff } from '../../async/backoff.js'
import { within } from '../../async/signals.js'
import type { CallContext, EngineStatus, FailureKind } from '../collection.js'
import { Breaker } from './breaker.js'
import { EngineFailure, failureOf, problemOf } from './failure.js'

export interface CallsOptions {
  /** For one call with its retries, unless its deadline is earlier. */
  timeoutMs: number
  /** Loads the collection into memory. */
  load: (timeoutMs: number) => Promise<void>
  report: (sentence: string) => void
}

const MAX_ATTEMPTS = 4
const FIRST_PAUSE_MS = 40
const FAILURES_TO_OPEN = 5
const FIRST_PROBE_MS = 500
const MAX_PROBE_PAUSE_MS = 8000

/** Calls to Milvus with a time limit, retries after lost connections, and a circuit breaker. */
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
      maxPauseMs: MAX_PROBE_PAUSE_MS,
      probe: () => this.#load(options.timeoutMs),
      onChange: (state) =>
        options.report(
          state === 'open'
            ? 'Milvus does not answer: calls are refused until a probe succeeds.'
            : 'Milvus answers again.',
        ),
    })
  }

  get status(): EngineStatus {
    const { state, opened } = this.#breaker
    const failures = { ...this.#failures }
    return { name: 'milvus', state, opened, retries: this.#retries, failures }
  }

  /**
   * Runs `work`, again after a lost connection or once the collection is loaded.
   * @param work - idempotent; takes the milliseconds left, and is abandoned when they are over
   * @throws TandemError `engine_unavailable`, `engine_timeout`, `engine_failed`; the reason of the
   *   signal
   */
  async call<Answer>(
    work: (timeoutMs: number) => Promise<Answer>,
    { signal, deadline = Infinity }: CallContext = {},
  ): Promise<Answer> {
    signal?.throwIfAborted()
    const limit = Math.min(this.#options.timeoutMs, deadline - performance.now())
    const until = performance.now() + limit
    const backoff = new Backoff(FIRST_PAUSE_MS)
    for (let attempt = 1; ; attempt += 1) {
      this.#refuseUnlessClosed(limit)
      try {
        const answer = await limited(work, until - performance.now(), signal)
        this.#breaker.succeeded()
        return answer
      } catch (error) {
        signal?.throwIfAborted()
        const failure = failureOf(error)
        this.#count(failure, limit)
        const wait = backoff.jitteredMs
        const again = ['unavailable', 'released'].includes(failure.kind) && attempt < MAX_ATTEMPTS
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

  #refuseUnlessClosed(limit: number): void {
    const { state, retryAfterS } = this.#breaker
    if (state !== 'closed')
      throw problemOf(new EngineFailure('unavailable', 'the breaker is open'), limit, retryAfterS)
  }

  #count(failure: EngineFailure, limit: number): void {
    this.#failures[failure.kind] += 1
    // A timeout before the full limit says nothing about the engine.
    const isSlow = failure.kind === 'timeout' && limit >= this.#options.timeoutMs
    if (isSlow || failure.kind === 'unavailable') this.#breaker.failed()
    else if (failure.kind === 'failed') this.#breaker.succeeded()
  }

  /** One load at a time: many calls notice at once that the collection is not loaded. */
  #load(timeoutMs: number): Promise<void> {
    this.#loading ??= limited(this.#options.load, timeoutMs).finally(() => {
      this.#loading = undefined
    })
    return this.#loading
  }
}

/**
 * @throws EngineFailure `timeout` after `limitMs`; the reason of the signal. The call continues.
 */
async function limited<Answer>(
  work: (timeoutMs: number) => Promise<Answer>,
  limitMs: number,
  signal?: AbortSignal,
): Promise<Answer> {
  if (limitMs <= 0) throw new EngineFailure('timeout', 'no time is left')
  const ms = Math.ceil(limitMs)
  return within(
    ms,
    signal,
    () => new EngineFailure('timeout', `no answer within ${ms} ms`),
    () => work(ms),
  )
}
