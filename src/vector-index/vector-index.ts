/**
 * DOOR of the vector index: nearest embeddings by cosine similarity, higher is better.
 *
 * It is a cache of the item store. `position` says up to which change of the store it is complete;
 * whoever opens it replays what is missing.
 */
import type { Report, WorkerStatus } from '../worker/worker-process.js'

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
  /** Ids that are not there are passed over. */
  remove(ids: readonly string[], position: number): Promise<void>
  /**
   * The `candidates` nearest ids, best first; fewer when the index holds fewer.
   * @throws RangeError as `upsert`, and for a number of candidates that is not a positive integer
   */
  search(embedding: Float32Array, candidates: number): Promise<Neighbour[]>
  has(id: string): boolean
  ids(): Iterable<string>
  readonly size: number
  /**
   * Share of the exact nearest that searches have lately been found to find; null while too few
   * have been verified.
   */
  readonly annRecall: number | null
  readonly position: number
  /**
   * Why a snapshot that was found could not be used, as a sentence; null where it was, or where
   * there was none.
   */
  readonly discarded: string | null
  /**
   * True from the death of the process that holds the graph on, until `recover` has brought it
   * back. Meanwhile searches, changes and snapshots fail as `index_unavailable`; what the index
   * says of itself is what was.
   */
  readonly lost: boolean
  /**
   * Begins again from the snapshot, then lets `repair` replay what that lacks; searches are
   * answered when it is done.
   * @throws TandemError `index_unavailable` while there is no process to begin with; what `repair`
   *   throws. Still lost then
   */
  recover(repair: () => Promise<unknown>): Promise<void>
  /** Calls `listener` each time that a lost index can be recovered; there is one listener. */
  onReturn(listener: () => void): void
  /** The processes that the index needs. */
  readonly workers: readonly WorkerStatus[]
  /** Makes the present state survive a restart. */
  save(): Promise<void>
  /** Ends the room without saving. */
  close(): Promise<void>
}

/** Parameters of HNSW graphs, the defaults of its authors: links of a node, beam while building. */
export const HNSW = { m: 16, efConstruction: 200 }

export interface VectorIndexOptions {
  kind: 'hnsw' | 'exact'
  /** Where the snapshot lies; made when it is missing. */
  folder: string
  dim: number
  /** Of the bundle that makes the embeddings: a snapshot of another one is not used. */
  fingerprint: string
  /**
   * The identity of the item store that the index is a cache of: a snapshot of another one is not
   * used.
   */
  storeIdentity: string
  /**
   * Share of the exact nearest that a search has to find, .99 by default: an approximate one
   * searches as widely as it takes.
   */
  recall?: number
  /**
   * Embeddings that an approximate index keeps beside its graph at most, to search a few exactly
   * and to verify the others.
   */
  sampleRows?: number
  /** Told what happens to the index's process, for the log. */
  report?: Report
}
