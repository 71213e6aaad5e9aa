/** Runs a limited number of tasks at a time; the others wait, interactive ones first. */
import { PriorityScheduler, type Priority } from './priority.js'

export interface LimiterOptions {
  /** Tasks that may wait; no limit by default. */
  maxWaiting?: number
  /** Makes the error of a task beyond `maxWaiting`. */
  full?: (waiting: number) => Error
}

export interface TaskOptions {
  signal?: AbortSignal | undefined
  /** Interactive by default. */
  priority?: Priority | undefined
}

export class Limiter {
  readonly #concurrency: number
  readonly #maxWaiting: number
  readonly #full: (waiting: number) => Error
  /** Callbacks that start a task, oldest first. */
  readonly #waiting: Record<Priority, Set<() => void>> = { interactive: new Set(), bulk: new Set() }
  readonly #scheduler = new PriorityScheduler()
  #running = 0

  /** @param concurrency - tasks that run at a time */
  constructor(concurrency: number, options: LimiterOptions = {}) {
    this.#concurrency = concurrency
    this.#maxWaiting = options.maxWaiting ?? Infinity
    this.#full = options.full ?? ((waiting) => new Error(`${waiting} tasks are waiting`))
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting.interactive.size + this.#waiting.bulk.size
  }

  /** Tasks that run, and those that wait before a new one of this priority. */
  ahead(priority: Priority): number {
    return this.#running + (priority === 'bulk' ? this.waiting : this.#waiting.interactive.size)
  }

  /**
   * Runs `task` when it is its turn. A task whose signal aborts before that never runs.
   * @throws the error of `full`; the reason of the signal; what the task throws
   */
  async run<Result>(
    task: () => Promise<Result>,
    { signal, priority = 'interactive' }: TaskOptions = {},
  ): Promise<Result> {
    signal?.throwIfAborted()
    if (this.#running >= this.#concurrency) await this.#turn(priority, signal)
    else this.#running += 1
    try {
      return await task()
    } finally {
      this.#running -= 1
      this.#startNext()
    }
  }

  /** Resolves once the task counts as running. */
  #turn(priority: Priority, signal: AbortSignal | undefined): Promise<void> {
    if (this.waiting >= this.#maxWaiting) throw this.#full(this.waiting)
    const waiting = this.#waiting[priority]
    return new Promise((resolve, reject) => {
      const start = (): void => {
        waiting.delete(start)
        signal?.removeEventListener('abort', leave)
        this.#running += 1
        resolve()
      }
      const leave = (): void => {
        waiting.delete(start)
        reject(signal?.reason as Error)
      }
      waiting.add(start)
      signal?.addEventListener('abort', leave, { once: true })
    })
  }

  #startNext(): void {
    const { interactive, bulk } = this.#waiting
    const priority = this.#scheduler.next({
      interactive: interactive.size > 0,
      bulk: bulk.size > 0,
    })
    if (priority === null) return
    const [start] = this.#waiting[priority]
    start?.()
  }
}
