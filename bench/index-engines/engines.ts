/** The compared engines. Each takes unit vectors by label and finds labels. */
import { Index, MetricKind, type ScalarKind } from 'usearch'
import { HnswGraph } from '../../src/vector-index/hnsw-graph.js'
import { TopK, type Nearest } from '../../src/vector-index/top-k.js'
import { PackedRows } from '../../src/vector-index/packed-rows.js'
import { HNSW } from '../../src/vector-index/vector-index.js'

export interface Engine {
  add(label: number, embedding: Float32Array): void
  remove(labels: readonly number[]): void
  /** @param ef - how widely to search, at least `limit` */
  search(query: Float32Array, limit: number, ef: number): Nearest
}

/**
 * hnswlib keeps float32; the others the precision in their name, and float32 rows to rescore.
 */
export const engines = [
  'hnswlib',
  'usearch-f32',
  'usearch-f16',
  'usearch-bf16',
  'usearch-i8',
] as const
export type EngineName = (typeof engines)[number]

export function openEngine(name: EngineName, dim: number): Engine {
  if (name === 'hnswlib') {
    const graph = HnswGraph.empty(dim)
    return {
      add: (label, embedding) => graph.add(label, embedding),
      remove: (labels) => graph.markDeleted(labels),
      search: (query, limit, ef) => graph.search(query, limit, ef),
    }
  }
  return new UsearchEngine(dim, name.slice('usearch-'.length) as Precision)
}

type Precision = 'f32' | 'f16' | 'bf16' | 'i8'

/** M and efConstruction as in the service. */
class UsearchEngine implements Engine {
  readonly #index: Index
  readonly #rows: PackedRows

  constructor(dim: number, precision: Precision) {
    this.#index = new Index({
      dimensions: dim,
      // Integers have no unit length, so that their dot product is no cosine.
      metric: precision === 'i8' ? MetricKind.Cos : MetricKind.IP,
      quantization: precision as ScalarKind,
      connectivity: HNSW.m,
      expansion_add: HNSW.efConstruction,
      expansion_search: 64,
      multi: false,
    })
    this.#rows = new PackedRows(dim)
  }

  add(label: number, embedding: Float32Array): void {
    this.#index.add(BigInt(label), embedding, 1)
    this.#rows.set(label, embedding)
  }

  remove(labels: readonly number[]): void {
    this.#index.remove(BigUint64Array.from(labels, BigInt))
  }

  /** ef is fixed when an index is made; to ask for so many comes to the same. */
  search(query: Float32Array, limit: number, ef: number): Nearest {
    const { keys } = this.#index.search(query, ef, 1)
    const nearest = new TopK(limit)
    for (const key of keys) nearest.offer(Number(key), this.#rows.similarity(query, Number(key)))
    return nearest.sorted()
  }
}
