import type { GraphKind } from '../onnx/graph-inputs.js'
import type { BatchSizes } from '../models.js'

/** Inputs of a batch: the upper limits of the buckets; a larger batch is only in the total. */
const LIMITS = [1, 2, 4, 8, 16, 32, 64, 128] as const

/** Counts the batches of one graph. */
export class BatchCounter {
  readonly #graph: GraphKind
  readonly #buckets = LIMITS.map((limit) => ({ limit, batches: 0 }))
  #batches = 0
  #inputs = 0

  constructor(graph: GraphKind) {
    this.#graph = graph
  }

  add(inputs: number): void {
    this.#batches += 1
    this.#inputs += inputs
    for (const bucket of this.#buckets) if (inputs <= bucket.limit) bucket.batches += 1
  }

  read(): BatchSizes {
    return {
      graph: this.#graph,
      buckets: this.#buckets,
      batches: this.#batches,
      inputs: this.#inputs,
    }
  }
}
