/**
 * A sample of the embeddings of a graph in packed rows, for exact searches. It has all of them
 * while they are few, otherwise every second, fourth and so on, evenly over the labels.
 */
import { PackedRows } from './packed-rows.js'
import { TopK, type Nearest } from './top-k.js'

export class RecallSample {
  readonly #rows: PackedRows
  readonly #maxRows: number
  /** Row r has the label r × every. */
  #every = 1

  /** @param expected - number of labels to come; sets the sampling stride */
  constructor({ dim, sampleRows }: { dim: number; sampleRows: number }, expected = 0) {
    this.#rows = new PackedRows(dim)
    this.#maxRows = sampleRows
    while (expected > sampleRows * this.#every) this.#every *= 2
  }

  /** The sampling stride: the sample takes multiples of it. */
  get every(): number {
    return this.#every
  }

  /** Whether the sample has every label. */
  get isWhole(): boolean {
    return this.#every === 1
  }

  /** Number of rows, with those of deleted labels. */
  get count(): number {
    return this.#rows.count
  }

  /** @param label - the next label of the stride; ignored if it is not in the stride */
  add(label: number, embedding: Float32Array): void {
    if (label % this.#every !== 0) return
    if (this.count >= this.#maxRows) {
      this.#halve()
      if (label % this.#every !== 0) return
    }
    this.#rows.set(label / this.#every, embedding)
  }

  delete(label: number): void {
    const row = label / this.#every
    if (Number.isInteger(row) && row < this.count) this.#rows.empty(row)
  }

  /** The exact nearest of the sample. */
  search(query: Float32Array, limit: number): Nearest {
    const topK = new TopK(limit)
    this.#rows.compare(query, (row, similarity) => topK.offer(row * this.#every, similarity))
    return topK.sorted()
  }

  /** Labels below `end` with a similarity to `query` above `threshold`. */
  above(query: Float32Array, threshold: number, end: number): number[] {
    const labels: number[] = []
    const rows = Math.min(this.count, Math.ceil(end / this.#every))
    this.#rows.compare(
      query,
      (row, similarity) => {
        if (similarity > threshold) labels.push(row * this.#every)
      },
      { to: rows },
    )
    return labels
  }

  #halve(): void {
    const remaining = Math.ceil(this.count / 2)
    for (let row = 0; row < remaining; row += 1) this.#rows.copy(2 * row, row)
    this.#rows.cut(remaining)
    this.#every *= 2
  }
}
