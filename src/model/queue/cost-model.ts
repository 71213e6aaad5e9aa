/** How long work for the model will take, from how long it took lately. Milliseconds. */
import type { GraphName } from '../onnx/graph-inputs.js'

/** What one batch changes the pace by: the last ten or so count. */
const MEMORY = 0.9
/** Over so long the share of the time is measured that interactive batches take. */
const SHARE_MS = 2000
/**
 * Bulk is sure of a twentieth of the time, whatever else is asked: a batch in eight, and those are
 * the small ones.
 */
export const MAX_BULK_DELAY = 20

interface Pace {
  milliseconds: number
  weight: number
}

export class CostModel {
  readonly #paces: Record<GraphName, Pace> = { text: fresh(), fusion: fresh(), image: fresh() }
  readonly #workers: number
  #interactive = { share: 0, at: 0 }

  /** @param workers - how many batches run at a time */
  constructor(workers = 1) {
    this.#workers = workers
  }

  /** Takes note of a batch that has just ended, at `now`. */
  observe(
    batch: { graph: GraphName; weight: number; milliseconds: number; bulk: boolean },
    now: number,
  ): void {
    const pace = this.#paces[batch.graph]
    pace.milliseconds = pace.milliseconds * MEMORY + batch.milliseconds
    pace.weight = pace.weight * MEMORY + batch.weight
    if (batch.bulk) return
    this.#interactive = {
      share: this.#interactiveShare(now) + batch.milliseconds / SHARE_MS / this.#workers,
      at: now,
    }
  }

  /** Of inputs that together weigh `weight`; 0 until a batch of that graph has been seen. */
  milliseconds(graph: GraphName, weight: number): number {
    const pace = this.#paces[graph]
    return pace.weight === 0 ? 0 : (weight * pace.milliseconds) / pace.weight
  }

  /** The most weight that takes no longer than `milliseconds`; at least 1. */
  weightWithin(graph: GraphName, milliseconds: number): number {
    const one = this.milliseconds(graph, 1)
    return one === 0 ? 1 : Math.max(1, Math.floor(milliseconds / one))
  }

  /** How much longer bulk work takes than it runs, because interactive work goes before it. */
  bulkDelay(now: number): number {
    return Math.min(MAX_BULK_DELAY, 1 / Math.max(0, 1 - this.#interactiveShare(now)))
  }

  #interactiveShare(now: number): number {
    const { share, at } = this.#interactive
    return share * Math.exp((at - now) / SHARE_MS)
  }
}

function fresh(): Pace {
  return { milliseconds: 0, weight: 0 }
}
