/**
 * The HNSW graph, by label. The only importer of hnswlib-node. Its calls block and its C++
 * exceptions end the process, so callers have to check arguments first.
 */
import { closeSync, fsyncSync, openSync } from 'node:fs'
import hnswlib from 'hnswlib-node'
import { isCompleteGraph } from './graph-file.js'
import type { Nearest } from './top-k.js'
import { HNSW } from './vector-index.js'

const FIRST_CAPACITY = 1024

export class HnswGraph {
  readonly #index: hnswlib.HierarchicalNSW

  private constructor(index: hnswlib.HierarchicalNSW) {
    this.#index = index
  }

  static empty(dim: number, capacity = 0): HnswGraph {
    const index = new hnswlib.HierarchicalNSW('ip', dim)
    index.initIndex({ maxElements: Math.max(capacity, FIRST_CAPACITY), ...HNSW })
    return new HnswGraph(index)
  }

  /** @param dim - has to be that of the saved graph; hnswlib does not check it */
  static load(dim: number, file: string): HnswGraph {
    const index = new hnswlib.HierarchicalNSW('ip', dim)
    index.readIndexSync(file)
    return new HnswGraph(index)
  }

  /** Number of labels in the graph, with those marked as deleted. */
  get count(): number {
    return this.#index.getCurrentCount()
  }

  /** @param embedding - normalised */
  add(label: number, embedding: Float32Array): void {
    const capacity = this.#index.getMaxElements()
    if (this.count >= capacity) this.#index.resizeIndex(capacity * 2)
    this.#index.addPoint(Array.from(embedding), label)
  }

  markDeleted(labels: readonly number[]): void {
    for (const label of labels) this.#index.markDelete(label)
  }

  embedding(label: number): Float32Array {
    return Float32Array.from(this.#index.getPoint(label))
  }

  /**
   * @param limit - at least 1, and at most the number of labels not marked as deleted
   * @param ef - width of the search, at least `limit`
   */
  search(embedding: Float32Array, limit: number, ef: number): Nearest {
    this.#index.setEf(ef)
    const { neighbors, distances } = this.#index.searchKnn(Array.from(embedding), limit)
    return {
      labels: neighbors,
      similarities: distances.map((distance) => Math.max(-1, Math.min(1, 1 - distance))),
    }
  }

  /**
   * Writes the graph to the new `file` and flushes it.
   *
   * @throws the error of the operating system, or Error if the disk is full. The incomplete file
   *   stays
   */
  save(file: string): void {
    // Makes the file first: hnswlib does not report that it cannot.
    const descriptor = openSync(file, 'wx+')
    try {
      this.#index.writeIndexSync(file)
      fsyncSync(descriptor)
      if (!isCompleteGraph(descriptor))
        throw new Error(`${file} is not complete: no space is left on the disk`)
    } finally {
      closeSync(descriptor)
    }
  }

  /**
   * Releases the memory of a graph that is not used any more. The garbage collector would do so
   * late: it rarely runs in a process with few objects.
   */
  free(): void {
    this.#index.initIndex({ maxElements: 1, ...HNSW })
  }
}
