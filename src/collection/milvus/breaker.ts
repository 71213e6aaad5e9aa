import { Backoff } from '../../async/backoff.js'
import type { EngineStatus } from '../collection.js'

export interface BreakerOptions {
  /** Consecutive failures that open it. */
  failures: number
  firstPauseMs: number
  maxPauseMs: number
  /** Succeeds only when the engine is healthy. */
  probe: () => Promise<void>
  onChange: (state: 'closed' | 'open') => void
}

/**
 * A circuit breaker that probes the engine itself: after some consecutive failures it opens, and
 * calls are refused at once. It probes after a pause that doubles, and closes when a probe
 * succeeds. So a service without traffic recovers too, and no client waits for a probe.
 */
export class Breaker {
  readonly #options: BreakerOptions
  #state: EngineStatus['state'] = 'closed'
  #failures = 0
  #opened = 0
  readonly #backoff: Backoff
  #timer: NodeJS.Timeout | undefined
  #ended = false

  constructor(options: BreakerOptions) {
    this.#options = options
    this.#backoff = new Backoff(options.firstPauseMs, options.maxPauseMs)
  }

  /** `half_open` during a probe; calls are refused then, too. */
  get state(): EngineStatus['state'] {
    return this.#state
  }

  /** How often it has opened. */
  get opened(): number {
    return this.#opened
  }

  /** Seconds until the next probe, at least 1. */
  get retryAfterS(): number {
    return Math.max(1, Math.ceil(this.#backoff.ms / 1000))
  }

  succeeded(): void {
    // Only a probe closes it, not a call that began before it opened.
    if (this.#state === 'closed') this.#failures = 0
  }

  failed(): void {
    this.#failures += 1
    if (this.#state !== 'closed' || this.#failures < this.#options.failures || this.#ended) return
    this.#state = 'open'
    this.#opened += 1
    this.#options.onChange('open')
    this.#scheduleProbe()
  }

  end(): void {
    this.#ended = true
    clearTimeout(this.#timer)
  }

  #scheduleProbe(): void {
    const { probe, onChange } = this.#options
    this.#timer = setTimeout(() => {
      this.#state = 'half_open'
      probe().then(
        () => {
          this.#state = 'closed'
          this.#failures = 0
          this.#backoff.reset()
          if (!this.#ended) onChange('closed')
        },
        () => {
          this.#state = 'open'
          this.#backoff.double()
          if (!this.#ended) this.#scheduleProbe()
        },
      )
    }, this.#backoff.ms)
    this.#timer.unref()
  }
}
