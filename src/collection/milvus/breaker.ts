/**
 * Keeps calls from an engine that does not answer: after some failures in a row it opens, and
 * whoever calls is refused at once. It tries the engine by itself, after a pause that doubles, and
 * closes when that answers: a service that is asked for nothing meanwhile finds its way back too.
 */
import { Backoff } from '../../async/backoff.js'

export type BreakerState = 'closed' | 'open' | 'half_open'

export interface BreakerOptions {
  /** Failures in a row after which it opens. */
  failures: number
  firstPauseMs: number
  longestPauseMs: number
  /** Asks the engine for something that only a well one can do. */
  probe: () => Promise<void>
  onChange: (state: 'closed' | 'open') => void
}

export class Breaker {
  readonly #options: BreakerOptions
  #state: BreakerState = 'closed'
  #failures = 0
  #opened = 0
  readonly #backoff: Backoff
  #timer: NodeJS.Timeout | undefined
  #ended = false

  constructor(options: BreakerOptions) {
    this.#options = options
    this.#backoff = new Backoff(options.firstPauseMs, options.longestPauseMs)
  }

  /** `half_open` while the engine is being tried; calls are refused then, too. */
  get state(): BreakerState {
    return this.#state
  }

  /** How often it has opened. */
  get opened(): number {
    return this.#opened
  }

  /** Seconds until the engine is tried again, at least 1. */
  get retryAfterS(): number {
    return Math.max(1, Math.ceil(this.#backoff.ms / 1000))
  }

  succeeded(): void {
    // An answer that was under way when it opened does not close it: the probe does.
    if (this.#state === 'closed') this.#failures = 0
  }

  failed(): void {
    this.#failures += 1
    if (this.#state !== 'closed' || this.#failures < this.#options.failures || this.#ended) return
    this.#state = 'open'
    this.#opened += 1
    this.#options.onChange('open')
    this.#probeLater()
  }

  end(): void {
    this.#ended = true
    clearTimeout(this.#timer)
  }

  #probeLater(): void {
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
          if (!this.#ended) this.#probeLater()
        },
      )
    }, this.#backoff.ms)
    this.#timer.unref()
  }
}
