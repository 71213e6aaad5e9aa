import { ExactIndex } from './exact.js'
import { HnswIndex } from './hnsw.js'
import type { VectorIndex, VectorIndexOptions } from './vector-index.js'

/** Opens the index of `kind` from its snapshot, or empty if no snapshot fits. */
export async function openVectorIndex(options: VectorIndexOptions): Promise<VectorIndex> {
  return options.kind === 'hnsw' ? HnswIndex.open(options) : new ExactIndex(options.dim)
}
