/**
 * The HNSW graph itself, by label. The only importer of hnswlib-node, whose calls block and whose C++ exceptions end the
 * process: everything that it would refuse is refused before it is asked.
 */
import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync } from 'node:fs'
import hnswlib from 'hnswlib-node'
import { isWholeGraph } from './graph-file.js'

/** M: links of a node; efConstruction: beam while building. The defaults of hnswlib's authors for such data. */
const M = 16
const EF_CONSTRUCTION = 200
/** Beam while searching: twice the candidates, and never below this. */
const LEAST_EF = 64
const FIRST_CAPACITY = 1024

export class HnswGraph {
  readonly #dim: number
  readonly #index: hnswlib.HierarchicalNSW

  /** Labels that are marked as deleted. */
  #deleted: number

  private constructor(dim: number, index: hnswlib.HierarchicalNSW, deleted: number) {
    this.#dim = dim
    this.#index = index
    this.#deleted = deleted
  }

  static empty(dim: number, capacity: number): HnswGraph {
    const index = new hnswlib.HierarchicalNSW('ip', dim)
    index.initIndex({ maxElements: Math.max(capacity, FIRST_CAPACITY), m: M, efConstruction: EF_CONSTRUCTION })
    return new HnswGraph(dim, index, 0)
  }

  /** The graph that `save` wrote; both numbers must be known to be its own, since wrong ones go unnoticed. */
  static load(dim: number, deleted: number, file: string): HnswGraph {
    const index = new hnswlib.HierarchicalNSW('ip', dim)
    index.readIndexSync(file)
    return new HnswGraph(dim, index, deleted)
  }

  /** Labels in the graph, those marked as deleted included. */
  get count(): number {
    return this.#index.getCurrentCount()
  }

  /** @param packed one normalised embedding after the other, in the order of `labels` */
  add(labels: readonly number[], packed: Float32Array): void {
    this.#makeRoom(labels.length)
    labels.forEach((label, row) => {
      this.#index.addPoint(Array.from(packed.subarray(row * this.#dim, (row + 1) * this.#dim)), label)
    })
  }

  markDeleted(labels: readonly number[]): void {
    for (const label of labels) this.#index.markDelete(label)
    this.#deleted += labels.length
  }

  /** Adds the embeddings that `source` has under `from`, under `to`. */
  copyFrom(source: HnswGraph, from: readonly number[], to: readonly number[]): void {
    this.#makeRoom(to.length)
    to.forEach((label, i) => this.#index.addPoint(source.#index.getPoint(from[i] as number), label))
  }

  /** @param candidates at least 1; of fewer labels, all that are not marked as deleted are found */
  search(embedding: Float32Array, candidates: number): { labels: number[]; similarities: number[] } {
    const limit = Math.min(candidates, this.count - this.#deleted)
    if (limit === 0) return { labels: [], similarities: [] }
    this.#index.setEf(Math.max(limit * 2, LEAST_EF))
    const { neighbors, distances } = this.#index.searchKnn(Array.from(embedding), limit)
    return { labels: neighbors, similarities: distances.map((distance) => Math.max(-1, Math.min(1, 1 - distance))) }
  }

  /**
   * Writes the graph to the new `file` and flushes it to the disk; answers its SHA-256 in hexadecimal.
   *
   * @throws the error of the operating system where the disk cannot be written to, or Error where it became full: hnswlib
   *   writes what it can and says nothing. What there is of the file stays.
   */
  save(file: string): string {
    // Opened here first: hnswlib does not say either that it could not make the file.
    const descriptor = openSync(file, 'wx+')
    try {
      this.#index.writeIndexSync(file)
      fsyncSync(descriptor)
      const bytes = readFileSync(descriptor)
      if (!isWholeGraph(bytes)) throw new Error(`${file} is not whole: no space is left on the disk`)
      return createHash('sha256').update(bytes).digest('hex')
    } finally {
      closeSync(descriptor)
    }
  }

  /**
   * Gives back the memory of a graph that is not used any more. Left to the collector, which in a process of few objects
   * hardly ever runs, one graph after another would be kept.
   */
  free(): void {
    this.#index.initIndex({ maxElements: 1, m: M, efConstruction: EF_CONSTRUCTION })
  }

  #makeRoom(more: number): void {
    const needed = this.count + more
    const capacity = this.#index.getMaxElements()
    if (needed > capacity) this.#index.resizeIndex(Math.max(needed, capacity * 2))
  }
}
