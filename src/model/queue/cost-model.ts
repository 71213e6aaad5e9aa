/** Predicts how long work for the models takes, from recent batches. Milliseconds. */
import { kindOf, type GraphKind, type GraphName } from '../onnx/graph-inputs.js'

/** Weight of the batches so far: about the last ten count. */
const MEMORY = 0.9
/** Time constant of the share of time that interactive batches take. */
const SHARE_MS = 2000
/** Bulk work always gets a twentieth of the time: every eighth batch, which is a small one. */
export const MAX_BULK_DELAY = 20

interface Pace {
  milliseconds: number
  weight: number
}

export class CostModel {
  readonly #paces: Record<GraphKind, Pace> = {
    text: fresh(),
    fusion: fresh(),
    image: fresh(),
    tokens: fresh(),
  }
  readonly #workers: number
  #interactive = { share: 0, at: 0 }

  /** @param workers - how many batches run at a time */
  constructor(workers = 1) {
    this.#workers = workers
  }

  /** Records a batch that ended at `now`. */
  observe(
    batch: { graph: GraphName; weight: number; milliseconds: number; bulk: boolean },
    now: number,
  ): void {
    const pace = this.#paces[kindOf(batch.graph)]
    pace.milliseconds = pace.milliseconds * MEMORY + batch.milliseconds
    pace.weight = pace.weight * MEMORY + batch.weight
    if (batch.bulk) return
    this.#interactive = {
      share: this.#interactiveShare(now) + batch.milliseconds / SHARE_MS / this.#workers,
      at: now,
    }
  }

  /** Time for inputs of this total weight; 0 before the first batch of the graph. */
  milliseconds(graph: GraphName, weight: number): number {
    const pace = this.#paces[kindOf(graph)]
    return pace.weight === 0 ? 0 : (weight * pace.milliseconds) / pace.weight
  }

  /** The largest weight that takes at most `milliseconds`; at least 1. */
  weightWithin(graph: GraphName, milliseconds: number): number {
    const each = this.milliseconds(graph, 1)
    return each === 0 ? 1 : Math.max(1, Math.floor(milliseconds / each))
  }

  /** Factor by which interactive work delays bulk work. */
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
