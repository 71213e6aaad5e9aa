/**
 * The HNSW graph itself, by label. The only importer of hnswlib-node, whose calls block and whose
 * C++ exceptions end the process: everything that it would refuse is refused before it is asked.
 */
import { closeSync, fsyncSync, openSync } from 'node:fs'
import hnswlib from 'hnswlib-node'
import { isWholeGraph, sha256Of } from './graph-file.js'
import type { Found } from './top-k.js'
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

  /**
   * The graph that `save` wrote; the dimensions must be known to be its own, since wrong ones go
   * unnoticed.
   */
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
   * @param limit - at least 1, and at most the labels that are not marked as deleted
   * @param ef - how widely the graph is searched, at least `limit`
   */
  search(embedding: Float32Array, limit: number, ef: number): Found {
    this.#index.setEf(ef)
    const { neighbors, distances } = this.#index.searchKnn(Array.from(embedding), limit)
    return {
      labels: neighbors,
      similarities: distances.map((distance) => Math.max(-1, Math.min(1, 1 - distance))),
    }
  }

  /**
   * Writes the graph to the new `file` and flushes it to the disk; answers its SHA-256 in
   * hexadecimal.
   *
   * @throws the error of the operating system where the disk cannot be written to, or Error where
   *   it became full: hnswlib writes what it can and says nothing. What there is of the file stays.
   */
  save(file: string): string {
    // Opened here first: hnswlib does not say either that it could not make the file.
    const descriptor = openSync(file, 'wx+')
    try {
      this.#index.writeIndexSync(file)
      fsyncSync(descriptor)
      if (!isWholeGraph(descriptor))
        throw new Error(`${file} is not whole: no space is left on the disk`)
      return sha256Of(descriptor)
    } finally {
      closeSync(descriptor)
    }
  }

  /**
   * Gives back the memory of a graph that is not used any more. Left to the collector, which in a
   * process of few objects hardly ever runs, one graph after another would be kept.
   */
  free(): void {
    this.#index.initIndex({ maxElements: 1, ...HNSW })
  }
}
