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
  readonly #queue: Pick<Queue<QueueEntry>, 'weights'>
  readonly #costs: CostModel
  readonly #workers: number
  /** Pairs to be matched after the texts that wait or run now. */
  readonly #pairsAhead: Record<Priority, number> = { interactive: 0, bulk: 0 }
  /** When a worker should be idle, on the clock of `performance.now()`. */
  idleAt = 0

  /** @param workers - how many batches run at a time */
  constructor(queue: Pick<Queue<QueueEntry>, 'weights'>, costs: CostModel, workers = 1) {
    this.#queue = queue
    this.#costs = costs
    this.#workers = workers
  }

  /** Adds expected pairs; a negative count removes them. */
  expectPairs(priority: Priority, count: number): void {
    this.#pairsAhead[priority] += count
  }

  /**
   * @param weight - sum of all inputs, which need not be ready yet
   * @param before - milliseconds until they are ready
   * @throws TandemError `overloaded`
   */
  admit(graph: GraphName, weight: number, call: Call, before = 0): void {
    const { deadline, priority = 'interactive', pairsAhead = 0 } = call
    if (deadline === undefined) return
    const now = performance.now()
    const own =
      this.#costs.milliseconds(graph, weight) + this.#costs.milliseconds('fusion', pairsAhead)
    const ahead =
      before +
      this.#running(now) +
      this.#queued('interactive') +
      (priority === 'bulk' ? this.#queued('bulk') : 0)
    const needed =
      SAFETY_FACTOR * (priority === 'bulk' ? before + this.#ofBulk(own, now) : ahead + own)
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
  #ofBulk(own: number, now: number): number {
    const bulk = this.#queued('bulk') + own
    const afterOthers = this.#queued('interactive') + bulk * this.#costs.bulkDelay(now)
    return this.#running(now) + Math.min(afterOthers, bulk * MAX_BULK_DELAY)
  }

  /** Milliseconds until a worker is free. */
  #running(now: number): number {
    return Math.max(0, this.idleAt - now)
  }

  #queued(priority: Priority): number {
    const waiting = this.#queue.weights(priority)
    const known = waiting.reduce(
      (sum, [graph, weight]) => sum + this.#costs.milliseconds(graph, weight),
      0,
    )
    return (known + this.#costs.milliseconds('fusion', this.#pairsAhead[priority])) / this.#workers
  }
}
