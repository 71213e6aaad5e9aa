/**
 * The exact index compares the query with every embedding, in this process, about 20 in a
 * microsecond. It is the ground truth of the approximate index, and fast enough for some ten
 * thousand items. It has no snapshot; each start replays the item store.
 */
import type { Neighbour, VectorIndex } from './vector-index.js'
import { normalise } from './normalise.js'
import { PackedRows } from './packed-rows.js'
import { checkCandidates, TopK } from './top-k.js'

export class ExactIndex implements VectorIndex {
  readonly discarded = null
  readonly lost = false
  readonly annRecall = 1
  readonly workers = []
  readonly #dim: number
  /** Row → id, without gaps. */
  readonly #ids: string[] = []
  readonly #rowOf = new Map<string, number>()
  readonly #rows: PackedRows
  #position = 0

  constructor(dim: number) {
    this.#dim = dim
    this.#rows = new PackedRows(dim)
  }

  get size(): number {
    return this.#ids.length
  }

  get position(): number {
    return this.#position
  }

  has(id: string): boolean {
    return this.#rowOf.has(id)
  }

  ids(): Iterable<string> {
    return this.#rowOf.keys()
  }

  upsert(
    entries: readonly { id: string; embedding: Float32Array }[],
    position: number,
  ): Promise<void> {
    return settled(() => {
      const ready = entries.map(({ id, embedding }) => ({
        id,
        embedding: normalise(embedding, this.#dim),
      }))
      for (const { id, embedding } of ready) this.#rows.set(this.#rowFor(id), embedding)
      this.#position = position
    })
  }

  remove(ids: readonly string[], position: number): Promise<void> {
    return settled(() => {
      for (const id of ids) this.#forget(id)
      this.#position = position
    })
  }

  search(embedding: Float32Array, candidates: number): Promise<Neighbour[]> {
    return settled(() => {
      checkCandidates(candidates)
      const query = normalise(embedding, this.#dim)
      const topK = new TopK(Math.min(candidates, this.size))
      this.#rows.compare(query, (row, similarity) => topK.offer(row, similarity))
      const { labels, similarities } = topK.sorted()
      return labels.map((row, at) => ({
        id: this.#ids[row] as string,
        similarity: similarities[at] as number,
      }))
    })
  }

  async save(): Promise<void> {}

  async recover(repair: () => Promise<unknown>): Promise<void> {
    await repair()
  }

  onReturn(): void {}

  async close(): Promise<void> {}

  /** The row of `id`, or a new one. */
  #rowFor(id: string): number {
    const existing = this.#rowOf.get(id)
    if (existing !== undefined) return existing
    const row = this.#ids.push(id) - 1
    this.#rowOf.set(id, row)
    return row
  }

  /** Moves the last row into the place of the removed one. */
  #forget(id: string): void {
    const row = this.#rowOf.get(id)
    if (row === undefined) return
    const last = this.#ids.length - 1
    const moved = this.#ids[last] as string
    this.#rows.copy(last, row)
    this.#rows.cut(last)
    this.#ids[row] = moved
    this.#rowOf.set(moved, row)
    this.#ids.pop()
    this.#rowOf.delete(id)
  }
}

/** The result or error of `work` as a promise. */
function settled<Result>(work: () => Result): Promise<Result> {
  return new Promise((resolve) => resolve(work()))
}
