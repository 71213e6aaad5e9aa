/**
 * The collection: stored items, searched by similarity, and the bundle that encodes them.
 *
 * Three kinds implement it: `embedded/` keeps items in this process, `milvus/` in a vector database
 * that several services share, and `encode-only.ts` keeps none. All methods are therefore
 * asynchronous.
 */
import type { Filter } from '../filter/filter.js'
import type {
  Copied,
  Item as StoredItem,
  NamedBundle,
  NewItem,
  Payload,
} from '../item-store/item-store.js'
import type { Call, Models } from '../model/models.js'
import type { Neighbour } from '../vector-index/vector-index.js'
import type { WorkerStatus } from '../worker/worker-process.js'

/** An item with its encodings by one bundle. */
export type Item = Omit<StoredItem, 'position'>
/** An item of a list: without encodings. */
export type ListedItem = Omit<Item, 'embedding' | 'imageTokens'>

/** Limits of a call to a vector database. Calls that stay in this process ignore them. */
export type CallContext = Pick<Call, 'signal' | 'deadline'>

export interface RecallOptions extends CallContext {
  /** Recalls only items whose payload passes. */
  filter?: Filter | undefined
}

/** The items with the encodings of one bundle. */
export interface Items {
  /**
   * The `candidates` nearest items by cosine similarity, best first; fewer when fewer pass the
   * filter.
   * @throws TandemError `index_unavailable`, `engine_*`; the reason of the signal
   */
  recall(embedding: Float32Array, candidates: number, options?: RecallOptions): Promise<Neighbour[]>
  /** In the order of `ids`; undefined for an unknown id. */
  getMany(ids: readonly string[], call?: CallContext): Promise<(Item | undefined)[]>
  /** Payloads in the order of `ids`: null without payload, undefined for an unknown id. */
  payloads(ids: readonly string[], call?: CallContext): Promise<(Payload | null | undefined)[]>
  /** The bytes of the stored image; undefined for an unknown id. */
  image(id: string, call?: CallContext): Promise<Uint8Array | undefined>
  /** Items after the id `after`, in the byte order of their ids in UTF-8. */
  list(
    page: { after?: string | undefined; limit: number },
    call?: CallContext,
  ): Promise<ListedItem[]>
  /** The last known number of items, for gauges and estimates. */
  readonly size: number
}

/** The serving bundle and its view of the items. Both stay open until the lease is disposed of. */
export interface Lease extends Disposable {
  readonly models: Models
  readonly items: Items
  /** True once another bundle serves. The view then lacks encodings of later writes. */
  readonly isOutdated: boolean
}

/**
 * `outdated`: not stored, because the bundle that encoded the item no longer serves. `unmet`: not
 * stored, because of the condition.
 */
export type PutOutcome = 'created' | 'replaced' | 'outdated' | 'unmet'

/** Whether an item may be stored, by the item and the image that its id has now. */
export type PutCondition = (
  stored: { item: ListedItem; image: Uint8Array | undefined } | undefined,
) => boolean

export interface Collection {
  /** The serving bundle and its items; a later promotion does not change them. */
  acquire(): Lease
  /**
   * Adds or replaces; durable and searchable when it resolves.
   * @param fingerprint - of the bundle that encoded the item
   * @param condition - checked in the same step where the items are kept in this process; a vector
   *   database does not check it
   * @throws TandemError `storage_full`, `storage_read_only`, `index_unavailable`, `overloaded`,
   *   `engine_*`
   */
  put(
    item: NewItem,
    fingerprint: string,
    call?: CallContext,
    condition?: PutCondition,
  ): Promise<PutOutcome>
  /** Resolves, once it is durable, to whether the item existed. */
  remove(id: string, call?: CallContext): Promise<boolean>
  /** Brings the index up to date with the stored items. Call it before any other method. */
  start(onProgress?: (replayed: number) => void): Promise<{ replayed: number; removed: number }>
  /** Writes a snapshot of the index, so that the next start replays less. */
  save(): Promise<void>
  /** The processes of the collection and of its models. */
  readonly workers: readonly WorkerStatus[]
  /** Null where the items are not kept in this process. */
  readonly maintenance: Maintenance | null
  /** Status of the vector database; null where the items are kept in this process. */
  readonly engine: EngineStatus | null
  /** Waits for writes, then closes the collection and the models. */
  close(): Promise<void>
}

/** Operations on an embedded collection while it serves. */
export interface Maintenance {
  readonly reembedder: Reembedder
  /** Identity of the item store, and its size on disk. */
  readonly storage: { identity: string; bytes: number }
  /** See `VectorIndex.annRecall`; of the serving bundle. */
  readonly annRecall: number | null
  /** Copies the item store as of one moment, while writes continue. See `ItemStore.copyTo`. */
  copyTo(folder: string): Promise<Copied>
  /**
   * Replaces the items by those of a copy, while searches and writes continue. Items that are
   * written after the call stay, also those written before the promise of the folder resolves.
   * @param folder - of the copy, which is not changed
   * @throws StoreMismatchError for a copy by another version of the service; TandemError
   *   `storage_full`, `storage_read_only`, `backup_unusable`, `backup_busy`. Groups restored before
   *   the error stay; the same restore can be run again.
   */
  restoreFrom(folder: string | Promise<string>, options: RestoreOptions): Promise<Restored>
}

export interface RestoreOptions {
  /** Ends the restore between two groups of items. */
  signal: AbortSignal
  /** Called with the number of items of the backup processed so far. */
  onProgress: (items: number) => void
}

/** Counts of items. */
export interface Restored {
  /** Added or replaced. */
  stored: number
  /** Not in the backup. */
  removed: number
  /** Equal to the backup before. */
  unchanged: number
}

/** Names of bundles: bare names of folders, which cannot lead out of the folder of bundles. */
export const BUNDLE_NAME = /^\w[\w.-]{0,99}$/

/** Changes the bundle without downtime; see `embedded/reembedder.ts`. */
export interface Reembedder {
  status(): { serving: NamedBundle; reembedding: ReembeddingStatus | null }
  /** Continues the re-embedding that the store remembers, if any, in the background. */
  resume(): void
  /**
   * Begins to re-embed the stored images with the bundle in the folder `name`. The same call again
   * retries a failed opening.
   * @throws TandemError `bundle_unusable`; `reembedding_conflict` when it serves already or another
   *   bundle is being prepared
   */
  start(name: string): Promise<void>
  /**
   * Makes the prepared bundle serve, and the former one the prepared bundle. Writes wait meanwhile;
   * running requests finish with the bundle that they began with.
   * @throws TandemError `reembedding_not_found`, `reembedding_not_ready`; the reason of the signal,
   *   in which case nothing changes
   */
  promote(call?: Call): Promise<void>
  /** Drops the prepared bundle and its encodings. @throws TandemError `reembedding_not_found` */
  end(): Promise<void>
  /** The processes of the prepared bundle. */
  readonly workers: readonly WorkerStatus[]
}

export interface ReembeddingStatus extends NamedBundle {
  /**
   * `opening`: models are being loaded; `embedding`: items remain; `ready`: the bundle can be
   * promoted; `failed`: the models could not be opened, see `problem`.
   */
  state: 'opening' | 'embedding' | 'ready' | 'failed'
  items: number
  /** Items not yet embedded. */
  lag: number
  /** Why it makes no progress; null while it does. */
  problem: string | null
}

/** Status of the vector database, for health and metrics. */
export interface EngineStatus {
  readonly name: string
  /** Of the circuit breaker: calls are refused unless it is closed. */
  readonly state: 'closed' | 'open' | 'half_open'
  /** How often the breaker has opened. */
  readonly opened: number
  /** Calls repeated. */
  readonly retries: number
  /** Failed calls by kind, repeated ones included. */
  readonly failures: Readonly<Record<FailureKind, number>>
}

/**
 * `unavailable`: not reached, cut off, or told to retry. `timeout`: no answer in time. `released`:
 * the collection is not loaded. `failed`: refused.
 */
export type FailureKind = 'unavailable' | 'timeout' | 'released' | 'failed'
