/**
 * Refuses work at once that would miss its deadline, from the work that waits and recent run times.
 * docs/adr/0009-restraint.md has the measurement.
 */
import { TandemError } from '../../errors.js'
import type { Call } from '../models.js'
import { MAX_BULK_DELAY, type CostModel } from './cost-model.js'
import type { GraphName } from '../onnx/graph-inputs.js'
import type { Priority } from '../../async/priority.js'
import type { QueueEntry, Queue } from './queue.js'

/** Under load, work takes up to this much longer than predicted. */
export const SAFETY_FACTOR = 1.75

export class Admission {
  readonly #queue: Pick<Queue<QueueEntry>, 'waiting'>
  readonly #costs: CostModel
  readonly #workers: number
  /** Pairs of each client to be matched after the texts that wait or run now. */
  readonly #pairsAhead: Record<Priority, Map<string, number>> = {
    interactive: new Map(),
    bulk: new Map(),
  }
  /** When a worker should be idle, on the clock of `performance.now()`. */
  idleAt = 0

  /** @param workers - how many batches run at a time */
  constructor(queue: Pick<Queue<QueueEntry>, 'waiting'>, costs: CostModel, workers = 1) {
    this.#queue = queue
    this.#costs = costs
    this.#workers = workers
  }

  /** Adds expected pairs of a client; a negative count removes them. */
  expectPairs({ priority = 'interactive', client = '' }: Call, count: number): void {
    const pairs = this.#pairsAhead[priority]
    const sum = (pairs.get(client) ?? 0) + count
    if (sum === 0) pairs.delete(client)
    else pairs.set(client, sum)
  }

  /**
   * @param weight - sum of all inputs, which need not be ready yet
   * @param before - milliseconds until they are ready
   * @throws TandemError `overloaded`
   */
  admit(graph: GraphName, weight: number, call: Call, before = 0): void {
    const { deadline, priority = 'interactive', client = '', pairsAhead = 0 } = call
    if (deadline === undefined) return
    const now = performance.now()
    const own =
      this.#costs.milliseconds(graph, weight) + this.#costs.milliseconds('fusion', pairsAhead)
    const fromNow = before + this.#running(now)
    const queued = this.#queued(priority, client, own)
    const interactive = priority === 'bulk' ? sum(this.#loads('interactive')) : 0
    const ahead = fromNow + queued + interactive
    const needed =
      SAFETY_FACTOR *
      (priority === 'bulk' ? fromNow + this.#ofBulk(interactive, queued + own, now) : ahead + own)
    const left = Math.max(0, deadline - now)
    // With nothing ahead, running it is the only way to correct a prediction that is too slow.
    if (ahead === 0 || needed <= left) return
    const message =
      `The answer would take about ${Math.ceil(needed)} ms, and ${Math.floor(left)} ms are left for it; ` +
      'try again in a moment.'
    throw new TandemError('overloaded', message, {
      retryAfterS: Math.max(1, Math.ceil((needed - left) / 1000)),
      reason: 'deadline',
    })
  }

  /** Bulk work ends after the interactive work, or earlier through its guaranteed share. */
  #ofBulk(interactive: number, bulk: number, now: number): number {
    return Math.min(interactive + bulk * this.#costs.bulkDelay(now), bulk * MAX_BULK_DELAY)
  }

  /** Milliseconds until a worker is free. */
  #running(now: number): number {
    return Math.max(0, this.idleAt - now)
  }

  /** Of each other client no more runs before `own` work of this one than of this one itself. */
  #queued(priority: Priority, client: string, own: number): number {
    const loads = this.#loads(priority)
    const mine = loads.get(client) ?? 0
    for (const [name, load] of loads) loads.set(name, Math.min(load, mine + own / this.#workers))
    return sum(loads)
  }

  /** Milliseconds of work that waits, and of the pairs that it brings, by client. */
  #loads(priority: Priority): Map<string, number> {
    const loads = new Map<string, number>()
    const add = (graph: GraphName, weight: number, client = ''): void => {
      const load = this.#costs.milliseconds(graph, weight) / this.#workers
      loads.set(client, (loads.get(client) ?? 0) + load)
    }
    for (const { graph, weight, client } of this.#queue.waiting(priority))
      add(graph, weight, client)
    for (const [client, pairs] of this.#pairsAhead[priority]) add('fusion', pairs, client)
    return loads
  }
}

function sum(loads: ReadonlyMap<string, number>): number {
  return [...loads.values()].reduce((total, load) => total + load, 0)
}
