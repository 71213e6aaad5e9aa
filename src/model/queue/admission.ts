/**
 * Refuses at once what could not be done before its deadline, by how much waits and how long that
 * took lately.
 */
import { TandemError } from '../../errors.js'
import type { Call } from '../models.js'
import { MAX_BULK_DELAY, type CostModel } from './cost-model.js'
import type { GraphName } from '../onnx/graph-inputs.js'
import type { Priority } from '../../async/priority.js'
import type { QueueEntry, Queue } from './queue.js'

/**
 * Under load work takes up to so much longer than expected, and what is accepted should be answered
 * in time.
 */
export const SAFETY_FACTOR = 1.75

export class Admission {
  readonly #waiting: Pick<Queue<QueueEntry>, 'weights'>
  readonly #forecast: CostModel
  readonly #workers: number
  /** Pairs that will be matched once the texts are encoded which wait or run now. */
  readonly #pairsAhead: Record<Priority, number> = { interactive: 0, bulk: 0 }
  /** When a worker should be idle. */
  idleAt = 0

  /** @param workers - how many batches run at a time */
  constructor(waiting: Pick<Queue<QueueEntry>, 'weights'>, forecast: CostModel, workers = 1) {
    this.#waiting = waiting
    this.#forecast = forecast
    this.#workers = workers
  }

  /** Counts pairs that are to come; a negative number takes them back. */
  expectPairs(priority: Priority, count: number): void {
    this.#pairsAhead[priority] += count
  }

  /**
   * @param weight - of all inputs together, which need not be ready yet
   * @param before - milliseconds that go by until they are
   * @throws TandemError `overloaded`
   */
  admit(graph: GraphName, weight: number, call: Call, before = 0): void {
    const { deadline, priority = 'interactive', pairsAhead = 0 } = call
    if (deadline === undefined) return
    const now = performance.now()
    const own =
      this.#forecast.milliseconds(graph, weight) + this.#forecast.milliseconds('fusion', pairsAhead)
    const ahead =
      before +
      this.#running(now) +
      this.#queued('interactive') +
      (priority === 'bulk' ? this.#queued('bulk') : 0)
    const needed =
      SAFETY_FACTOR * (priority === 'bulk' ? before + this.#ofBulk(own, now) : ahead + own)
    const left = Math.max(0, deadline - now)
    // Where nothing is before it, trying is the only way to learn that what was slow once no longer
    // is.
    if (ahead === 0 || needed <= left) return
    const sentence =
      `The answer would take about ${Math.ceil(needed)} ms, and ${Math.floor(left)} ms are left for it; ` +
      'try again in a moment.'
    throw new TandemError('overloaded', sentence, {
      retryAfterS: Math.max(1, Math.ceil((needed - left) / 1000)),
    })
  }

  /**
   * Bulk is done once what is interactive has gone before it, or sooner by the turns that it is
   * sure of.
   */
  #ofBulk(own: number, now: number): number {
    const bulk = this.#queued('bulk') + own
    const afterOthers = this.#queued('interactive') + bulk * this.#forecast.bulkDelay(now)
    return this.#running(now) + Math.min(afterOthers, bulk * MAX_BULK_DELAY)
  }

  /** Until a batch that runs makes room for another one. */
  #running(now: number): number {
    return Math.max(0, this.idleAt - now)
  }

  #queued(priority: Priority): number {
    const waiting = this.#waiting.weights(priority)
    const known = waiting.reduce(
      (sum, [graph, weight]) => sum + this.#forecast.milliseconds(graph, weight),
      0,
    )
    return (
      (known + this.#forecast.milliseconds('fusion', this.#pairsAhead[priority])) / this.#workers
    )
  }
}
