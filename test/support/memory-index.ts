/** A vector index in memory, which a test can make fail or lose its content. */
import { TandemError } from '../../src/errors.js'
import type { VectorIndex } from '../../src/vector-index/vector-index.js'
import type { WorkerStatus } from '../../src/worker/worker-process.js'

export class MemoryIndex implements VectorIndex {
  readonly vectors = new Map<string, Float32Array>()
  readonly discarded = null
  readonly annRecall = null
  readonly workers: WorkerStatus[] = []
  lost = false
  onReturnCall: () => void = () => undefined
  position = 0
  saves = 0
  fail: Error | undefined
  /** Awaited before each write; a test can delay writes or make them fail. */
  gate: () => Promise<void> = () => Promise.resolve()

  get size(): number {
    return this.vectors.size
  }

  has(id: string): boolean {
    return this.vectors.has(id)
  }

  ids(): Iterable<string> {
    return this.vectors.keys()
  }

  async upsert(
    entries: readonly { id: string; embedding: Float32Array }[],
    position: number,
  ): Promise<void> {
    await this.gate()
    if (this.fail !== undefined) throw this.fail
    for (const { id, embedding } of entries) this.vectors.set(id, embedding)
    this.position = position
  }

  async remove(ids: readonly string[], position: number): Promise<void> {
    await Promise.resolve()
    if (this.fail !== undefined) throw this.fail
    for (const id of ids) this.vectors.delete(id)
    this.position = position
  }

  search(embedding: Float32Array, candidates: number) {
    if (this.lost) return Promise.reject(this.fail ?? new Error('the index is being recovered'))
    const all = [...this.vectors].map(([id, vector]) => ({
      id,
      similarity: vector.reduce((sum, value, at) => sum + value * (embedding[at] ?? 0), 0),
    }))
    // Ties are ordered by id, so that answers of two services are comparable.
    all.sort((a, b) => b.similarity - a.similarity || (a.id < b.id ? -1 : 1))
    return Promise.resolve(all.slice(0, candidates))
  }

  /** Loses its content, as a process that died without a snapshot; `returns` permits recovery. */
  lose(): void {
    this.lost = true
    this.fail = new TandemError('index_unavailable', 'The index has lost its process.')
  }

  returns(): void {
    this.fail = undefined
    this.onReturnCall()
  }

  async recover(repair: () => Promise<unknown>): Promise<void> {
    if (this.fail !== undefined) throw this.fail
    this.vectors.clear()
    this.position = 0
    await repair()
    this.lost = false
  }

  onReturn(listener: () => void): void {
    this.onReturnCall = listener
  }

  save() {
    this.saves += 1
    return Promise.resolve()
  }

  close() {
    return Promise.resolve()
  }
}
