/**
 * The embeddings of a graph's labels as packed rows: all of them while they are few, so that they
 * can be searched exactly; of more, every second, every fourth and so on, evenly over the labels,
 * to hold against what the graph finds.
 */
import { TopK, type Nearest } from './top-k.js'
import { PackedRows } from './packed-rows.js'

export class RecallSample {
  readonly #rows: PackedRows
  readonly #mostRows: number
  /** Row r holds the label r × every. */
  #every = 1

  /**
   * @param sampleRows - how many rows to hold at most
   * @param labels - that are about to be added, of which it then takes every so many-th from the
   *   start
   */
  constructor({ dim, sampleRows }: { dim: number; sampleRows: number }, labels = 0) {
    this.#rows = new PackedRows(dim)
    this.#mostRows = sampleRows
    while (labels > sampleRows * this.#every) this.#every *= 2
  }

  /** It takes the labels that are a multiple of this. */
  get every(): number {
    return this.#every
  }

  /** Whether no label has been left out. */
  get isWhole(): boolean {
    return this.#every === 1
  }

  /** Rows to compare with, those of deleted labels included. */
  get count(): number {
    return this.#rows.count
  }

  /** @param label - the next that it takes, or one that it does not take */
  add(label: number, embedding: Float32Array): void {
    if (label % this.#every !== 0) return
    if (this.count >= this.#mostRows) {
      this.#halve()
      if (label % this.#every !== 0) return
    }
    this.#rows.set(label / this.#every, embedding)
  }

  delete(label: number): void {
    if (label % this.#every === 0 && label / this.#every < this.count)
      this.#rows.empty(label / this.#every)
  }

  /** Of those that are there, the nearest, exactly. */
  search(query: Float32Array, limit: number): Nearest {
    const nearest = new TopK(limit)
    this.#rows.compare(query, (row, similarity) => nearest.offer(row * this.#every, similarity))
    return nearest.sorted()
  }

  /** Tells `look` the labels below `end` that are more similar to `query` than `similarity`. */
  above(query: Float32Array, similarity: number, end: number, look: (label: number) => void): void {
    const rows = Math.min(this.count, Math.ceil(end / this.#every))
    this.#rows.compare(query, (row, found) => found > similarity && look(row * this.#every), rows)
  }

  #halve(): void {
    const remaining = Math.ceil(this.count / 2)
    for (let row = 0; row < remaining; row += 1) this.#rows.copy(2 * row, row)
    this.#rows.cut(remaining)
    this.#every *= 2
  }
}
