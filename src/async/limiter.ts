/**
 * Runs a limited number of tasks at a time; the others wait. Interactive tasks start first. Among
 * tasks of one priority, the client with the fewest running tasks is next, then the one that has
 * waited longest.
 */
import { PriorityScheduler, type Priority } from './priority.js'

export interface LimiterOptions {
  /** Tasks of one client that run at a time; as many as of all clients by default. */
  perClient?: number
  /** Tasks that may wait, three quarters of them of one client; no limit by default. */
  maxWaiting?: number
  /** Makes the error of a task beyond `maxWaiting`. */
  full?: (waiting: number) => Error
}

export interface TaskOptions {
  signal?: AbortSignal | undefined
  /** Interactive by default. */
  priority?: Priority | undefined
  /** Tasks without a client count as those of one client. */
  client?: string | undefined
}

/** Tasks of one client. An entry exists while it has any. */
interface Share {
  running: number
  /** Number of its last start; 0 before. */
  lastStart: number
  /** Callbacks that start a task, oldest first. */
  readonly waiting: Readonly<Record<Priority, Set<() => void>>>
}

/** Share of `maxWaiting` that one client leaves to others. */
const LEFT_FREE = 0.25

export class Limiter {
  readonly #concurrency: number
  readonly #perClient: number
  readonly #maxWaiting: number
  readonly #full: (waiting: number) => Error
  readonly #shares = new Map<string, Share>()
  readonly #scheduler = new PriorityScheduler()
  #running = 0
  #starts = 0

  /** @param concurrency - tasks that run at a time */
  constructor(concurrency: number, options: LimiterOptions = {}) {
    this.#concurrency = concurrency
    this.#perClient = options.perClient ?? concurrency
    this.#maxWaiting = options.maxWaiting ?? Infinity
    this.#full = options.full ?? ((waiting) => new Error(`${waiting} tasks are waiting`))
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return [...this.#shares.values()].reduce((sum, share) => sum + waitingOf(share), 0)
  }

  /** Whether a new task of the client would start at once. */
  isFree({ client = '' }: TaskOptions = {}): boolean {
    const own = this.#shares.get(client)?.running ?? 0
    return this.#running < this.#concurrency && own < this.#perClient
  }

  /** Tasks that run, and those that wait, before a new one; of each other client a fair share. */
  ahead({ priority = 'interactive', client = '' }: TaskOptions = {}): number {
    const load = (share: Share | undefined): number =>
      share === undefined ? 0 : share.running + waitingOf(share, priority)
    const own = load(this.#shares.get(client))
    return [...this.#shares].reduce(
      (sum, [name, share]) => sum + (name === client ? own : Math.min(load(share), own + 1)),
      0,
    )
  }

  /**
   * Runs `task` when it is its turn. A task whose signal aborts before that never runs.
   * @throws the error of `full`; the reason of the signal; what the task throws
   */
  async run<Result>(task: () => Promise<Result>, options: TaskOptions = {}): Promise<Result> {
    const turn = this.#enter(options)
    if (turn !== null) await turn
    try {
      return await task()
    } finally {
      this.#leave(options)
    }
  }

  /**
   * Waits for a turn. @returns a function that ends it
   * @throws the error of `full`; the reason of the signal
   */
  async acquire(options: TaskOptions = {}): Promise<() => void> {
    await this.#enter(options)
    return () => this.#leave(options)
  }

  /** @returns null when the turn has begun */
  #enter(options: TaskOptions): Promise<void> | null {
    options.signal?.throwIfAborted()
    if (!this.isFree(options)) return this.#turn(options)
    this.#start(options.client ?? '')
    return null
  }

  #leave({ client = '' }: TaskOptions): void {
    this.#running -= 1
    this.#shareOf(client).running -= 1
    this.#startNext()
    this.#forget(client)
  }

  /** Resolves once the task counts as running. */
  #turn({ client = '', priority = 'interactive', signal }: TaskOptions): Promise<void> {
    const own = this.#shares.get(client)
    const mine = own === undefined ? 0 : waitingOf(own)
    const limit = Math.ceil(this.#maxWaiting * (1 - LEFT_FREE))
    if (this.waiting >= this.#maxWaiting || mine >= limit) throw this.#full(this.waiting)
    const waiting = this.#shareOf(client).waiting[priority]
    return new Promise((resolve, reject) => {
      const start = (): void => {
        waiting.delete(start)
        signal?.removeEventListener('abort', leave)
        this.#start(client)
        resolve()
      }
      const leave = (): void => {
        waiting.delete(start)
        this.#forget(client)
        reject(signal?.reason as Error)
      }
      waiting.add(start)
      signal?.addEventListener('abort', leave, { once: true })
    })
  }

  #start(client: string): void {
    const share = this.#shareOf(client)
    this.#running += 1
    share.running += 1
    share.lastStart = this.#starts += 1
  }

  #startNext(): void {
    const next = { interactive: this.#next('interactive'), bulk: this.#next('bulk') }
    const priority = this.#scheduler.next({
      interactive: next.interactive !== undefined,
      bulk: next.bulk !== undefined,
    })
    if (priority !== null) next[priority]?.()
  }

  /** The oldest waiting task of the client whose turn it is. */
  #next(priority: Priority): (() => void) | undefined {
    const [first, ...others] = [...this.#shares.values()].filter(
      (share) => share.waiting[priority].size > 0 && share.running < this.#perClient,
    )
    if (first === undefined) return undefined
    const [start] = others.reduce(earlier, first).waiting[priority]
    return start
  }

  #shareOf(client: string): Share {
    const known = this.#shares.get(client)
    if (known !== undefined) return known
    const share = {
      running: 0,
      lastStart: 0,
      waiting: { interactive: new Set<never>(), bulk: new Set<never>() },
    }
    this.#shares.set(client, share)
    return share
  }

  #forget(client: string): void {
    const share = this.#shares.get(client)
    if (share?.running === 0 && waitingOf(share) === 0) this.#shares.delete(client)
  }
}

/** The share with fewer running tasks; of two with as many, the one that has waited longer. */
function earlier(a: Share, b: Share): Share {
  const isEarlier = a.running === b.running ? a.lastStart <= b.lastStart : a.running < b.running
  return isEarlier ? a : b
}

/** Waiting tasks that start before a new one of this priority; all by default. */
function waitingOf({ waiting }: Share, priority: Priority = 'bulk'): number {
  return waiting.interactive.size + (priority === 'bulk' ? waiting.bulk.size : 0)
}
