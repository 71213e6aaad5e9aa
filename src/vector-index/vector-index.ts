/**
 * The vector index: nearest embeddings by cosine similarity, higher is better.
 *
 * It is a cache of the item store. `position` is the last change of the store that it has; its
 * owner replays later changes.
 */
import type { Report, WorkerStatus } from '../worker/worker-process.js'

/** HNSW: links of a node, and width of the search for them. hnswlib's defaults for such data. */
export const HNSW = { m: 16, efConstruction: 200 } as const

export interface Neighbour {
  id: string
  /** Cosine in [-1, 1]. */
  similarity: number
}

export interface VectorIndex {
  /**
   * Adds or replaces. `position` is the store's sequence number after these entries.
   * @throws RangeError for an embedding of another length, with a value that is not finite, or of
   *   length zero; TandemError `index_unavailable`
   */
  upsert(
    entries: readonly { id: string; embedding: Float32Array }[],
    position: number,
  ): Promise<void>
  /** Ignores unknown ids. */
  remove(ids: readonly string[], position: number): Promise<void>
  /**
   * The `candidates` nearest ids, best first; fewer if the index has fewer.
   * @throws RangeError as `upsert`, and unless `candidates` is a positive integer; TandemError
   *   `index_unavailable`
   */
  search(embedding: Float32Array, candidates: number): Promise<Neighbour[]>
  has(id: string): boolean
  ids(): Iterable<string>
  readonly size: number
  /** Measured share of the exact nearest that searches find; null before enough searches. */
  readonly annRecall: number | null
  readonly position: number
  /** Why a snapshot was not used, as a sentence; null if it was used or none was found. */
  readonly discarded: string | null
  /**
   * True from the death of the graph's process until `recover` succeeds. Until then searches,
   * changes and snapshots fail with `index_unavailable`; the other properties keep their values.
   */
  readonly lost: boolean
  /**
   * Loads the snapshot again and calls `repair`, which replays later changes. Searches are answered
   * afterwards.
   * @throws TandemError `index_unavailable` while there is no process; what `repair` throws. The
   *   index is still lost then
   */
  recover(repair: () => Promise<unknown>): Promise<void>
  /** Sets the one listener, called each time that a lost index can be recovered. */
  onReturn(listener: () => void): void
  /** The processes that the index needs. */
  readonly workers: readonly WorkerStatus[]
  /** Writes a snapshot. */
  save(): Promise<void>
  /** Closes without saving. */
  close(): Promise<void>
}

export interface VectorIndexOptions {
  kind: 'hnsw' | 'exact'
  /** Folder of the snapshot; made if it is missing. */
  folder: string
  dim: number
  /** Of the bundle that makes the embeddings. A snapshot of another bundle is not used. */
  fingerprint: string
  /** Identity of the item store. A snapshot of another store is not used. */
  storeIdentity: string
  /** Most embeddings that `hnsw` keeps outside its graph, to search and verify exactly. */
  sampleRows?: number
  /** Receives events of the index's process, for the log. */
  report?: Report
}
