/**
 * The exact index: compares with every embedding. The truth that the approximate index is held to, and good enough for
 * some ten thousand items. It has no snapshot; it is replayed from the item store at every start.
 */
import type { Neighbour, VectorIndex } from '../vector-index.js'
import { checkCandidates, normalise } from './normalise.js'

const FIRST_CAPACITY = 1024

export class ExactIndex implements VectorIndex {
  readonly discarded = null
  readonly lost = false
  readonly workers = []
  readonly #dim: number
  /** Row → id; rows have no gaps. */
  readonly #ids: string[] = []
  readonly #rows = new Map<string, number>()
  /** Row after row, `dim` values each. */
  #packed: Float32Array
  #position = 0

  constructor(dim: number) {
    this.#dim = dim
    this.#packed = new Float32Array(FIRST_CAPACITY * dim)
  }

  get size(): number {
    return this.#ids.length
  }

  get position(): number {
    return this.#position
  }

  has(id: string): boolean {
    return this.#rows.has(id)
  }

  ids(): Iterable<string> {
    return this.#rows.keys()
  }

  upsert(entries: readonly { id: string; embedding: Float32Array }[], position: number): Promise<void> {
    return settled(() => {
      const ready = entries.map(({ id, embedding }) => ({ id, embedding: normalise(embedding, this.#dim) }))
      for (const { id, embedding } of ready) {
        const row = this.#rowFor(id)
        this.#packed.set(embedding, row * this.#dim)
      }
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
      return this.#ids
        .map((id, row) => ({ id, similarity: this.#similarity(query, row) }))
        .sort((a, b) => b.similarity - a.similarity)
        .slice(0, candidates)
    })
  }

  async save(): Promise<void> {}

  async recover(repair: () => Promise<unknown>): Promise<void> {
    await repair()
  }

  onReturn(): void {}

  async close(): Promise<void> {}

  #similarity(query: Float32Array, row: number): number {
    const start = row * this.#dim
    let sum = 0
    for (let i = 0; i < this.#dim; i += 1) sum += (query[i] as number) * (this.#packed[start + i] as number)
    return Math.max(-1, Math.min(1, sum))
  }

  /** The row of `id`, made at the end where it has none. */
  #rowFor(id: string): number {
    const existing = this.#rows.get(id)
    if (existing !== undefined) return existing
    const row = this.#ids.push(id) - 1
    this.#rows.set(id, row)
    if ((row + 1) * this.#dim > this.#packed.length) {
      const larger = new Float32Array(this.#packed.length * 2)
      larger.set(this.#packed)
      this.#packed = larger
    }
    return row
  }

  /** The last row takes the place of the one that goes. */
  #forget(id: string): void {
    const row = this.#rows.get(id)
    if (row === undefined) return
    const last = this.#ids.length - 1
    const moved = this.#ids[last] as string
    this.#packed.copyWithin(row * this.#dim, last * this.#dim, (last + 1) * this.#dim)
    this.#ids[row] = moved
    this.#rows.set(moved, row)
    this.#ids.pop()
    this.#rows.delete(id)
  }
}

/** What `work` gives or throws, as a promise. */
function settled<Result>(work: () => Result): Promise<Result> {
  return new Promise((resolve) => resolve(work()))
}
