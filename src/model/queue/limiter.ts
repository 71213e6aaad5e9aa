/** Lets a few pieces of work run at a time; the others wait their turn, interactive ones first. */
import { TandemError } from '../../errors.js'
import type { Call } from '../models.js'
import { Precedence, type Priority } from './priority.js'

/** What one piece changes the pace by: the last ten or so count. */
const MEMORY = 0.9

interface Waiter {
  begin: () => void
}

export class Turns {
  readonly #atATime: number
  readonly #most: number
  readonly #what: string
  readonly #waiting: Record<Priority, Set<Waiter>> = { interactive: new Set(), bulk: new Set() }
  readonly #precedence = new Precedence()
  #running = 0
  #milliseconds = 0

  /**
   * @param atATime - pieces that run at once
   * @param most - pieces that may wait; one more is refused as `overloaded`
   * @param what - the pieces, for the sentence of a refusal: "images wait to be decoded"
   */
  constructor(atATime: number, most: number, what: string) {
    this.#atATime = atATime
    this.#most = most
    this.#what = what
  }

  /** Pieces that run or wait. */
  get size(): number {
    return this.#running + this.#waiting.interactive.size + this.#waiting.bulk.size
  }

  /** Pieces that run, and those that wait before a new one of this priority. */
  before(priority: Priority): number {
    return priority === 'bulk' ? this.size : this.#running + this.#waiting.interactive.size
  }

  /** Milliseconds until so many pieces are done, by how long they took lately. */
  milliseconds(pieces: number): number {
    return (pieces * this.#milliseconds) / this.#atATime
  }

  /**
   * Runs `work` when it is its turn. Work whose signal fires before that never runs.
   * @throws TandemError `overloaded`; the signal's reason; what the work throws
   */
  async run<Value>(
    work: () => Promise<Value>,
    { signal, priority = 'interactive' }: Call = {},
  ): Promise<Value> {
    signal?.throwIfAborted()
    if (this.#running < this.#atATime) this.#running += 1
    else await this.#turn(priority, signal)
    const begun = performance.now()
    try {
      return await work()
    } finally {
      const took = performance.now() - begun
      this.#milliseconds =
        this.#milliseconds === 0 ? took : this.#milliseconds * MEMORY + took * (1 - MEMORY)
      this.#running -= 1
      this.#next()
    }
  }

  /** Resolves once the work counts as running. */
  #turn(priority: Priority, signal: AbortSignal | undefined): Promise<void> {
    const waiting = this.#waiting[priority]
    const count = this.#waiting.interactive.size + this.#waiting.bulk.size
    if (count >= this.#most) {
      throw new TandemError(
        'overloaded',
        `${count} ${this.#what}, the most that may; try again in a moment.`,
        { retryAfterS: 1 },
      )
    }
    return new Promise((resolve, reject) => {
      const give = (): void => {
        waiting.delete(waiter)
        reject(signal?.reason as Error)
      }
      const waiter: Waiter = {
        begin: () => {
          waiting.delete(waiter)
          signal?.removeEventListener('abort', give)
          this.#running += 1
          resolve()
        },
      }
      waiting.add(waiter)
      signal?.addEventListener('abort', give, { once: true })
    })
  }

  #next(): void {
    const { interactive, bulk } = this.#waiting
    const next = this.#precedence.next({ interactive: interactive.size > 0, bulk: bulk.size > 0 })
    if (next === null) return
    const [waiter] = this.#waiting[next]
    waiter?.begin()
  }
}
