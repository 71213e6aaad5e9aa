/**
 * DOOR of the collection: the items of the service, kept and searched, with the bundle that encodes
 * them.
 *
 * The pipeline asks it for items and never for a store or an index, which are two rooms of the
 * embedded collection and one engine elsewhere. So everything here is asynchronous; what lies in
 * this process answers in the same breath.
 */
import type { BundleShelf } from './embedded/reembedder.js'
import type { Rooms } from './embedded/serving.js'
import { EmbeddedCollection } from './embedded/embedded.js'
import { ItemlessCollection } from './encode-only.js'
import { SharedCollection } from './milvus/shared.js'
import type { Upkeep } from './embedded/maintenance.js'
import type { Filter } from '../filter/filter.js'
import type { Item as StoredItem, NewItem, Payload } from '../item-store/item-store.js'
import type { EngineStatus, MilvusItems } from './milvus/milvus.js'
import type { Call, Models } from '../model/models.js'
import type { Neighbour } from '../vector-index/vector-index.js'
import type { WorkerStatus } from '../worker/worker-process.js'

export { Follower } from './embedded/backfill.js'
export { repairIndex } from './embedded/repair.js'
export { isUnit } from '../vector-index/normalise.js'
export type { Restored } from './embedded/restore.js'
export type { BundleShelf, StandbyStatus } from './embedded/reembedder.js'
export type { EmbeddedCollection, EngineStatus, Neighbour, NewItem, Payload, Rooms, Upkeep }

/** An item with what the bundle made of its image. */
export type Item = Omit<StoredItem, 'position'>
/** An item as it is listed. */
export type ListedItem = Omit<Item, 'embedding' | 'imageTokens'>

/**
 * On whose behalf items are asked for. What lies in this process answers at once and heeds neither.
 */
export type Asker = Pick<Call, 'signal' | 'deadline'>

/** How items are recalled. */
export interface Recall extends Asker {
  /** Only items whose payload it lets through. */
  filter?: Filter | undefined
}

/** The items with the encodings of one bundle. */
export interface Items {
  /**
   * The `candidates` nearest items, best first; fewer where there are fewer, or fewer that the
   * filter lets through.
   * @throws TandemError `index_unavailable`, or what an engine elsewhere meets; the reason of the
   *   signal
   */
  recall(embedding: Float32Array, candidates: number, options?: Recall): Promise<Neighbour[]>
  /** In the order of `ids`; undefined where there is no such item. */
  getMany(ids: readonly string[], asker?: Asker): Promise<(Item | undefined)[]>
  /** As `getMany`, of each item the payload alone, null where it has none: cheaper. */
  payloads(ids: readonly string[], asker?: Asker): Promise<(Payload | null | undefined)[]>
  /** The bytes of the stored image; undefined where there is no such item. */
  image(id: string, asker?: Asker): Promise<Uint8Array | undefined>
  /** Items in the order of their ids (that of their bytes in UTF-8), those after `after`. */
  list(page: { after?: string | undefined; limit: number }, asker?: Asker): Promise<ListedItem[]>
  /** As last known, for gauges and forecasts. */
  readonly size: number
}

/**
 * The bundle that serves and the items as it sees them, kept open until the visit is disposed of.
 */
export interface Visit extends Disposable {
  readonly models: Models
  readonly items: Items
  /** Whether another bundle serves by now: what was written since is encoded by that alone. */
  readonly isOutdated: boolean
}

/** `switched`: not stored, because another bundle than the one that encoded it serves by now. */
export type Put = 'created' | 'replaced' | 'switched'

export interface Collection {
  /** The bundle and the items of this moment; a change of bundle does not touch them. */
  enter(): Visit
  /**
   * Adds or replaces; durable and findable when it resolves.
   * @param fingerprint - of the bundle that encoded the item
   * @throws TandemError `storage_full`, `storage_read_only`, `index_unavailable`, `overloaded`, or
   *   what an engine meets
   */
  put(item: NewItem, fingerprint: string, asker?: Asker): Promise<Put>
  /** Resolves, once it is durable, to whether there was one. */
  remove(id: string, asker?: Asker): Promise<boolean>
  /** Makes the items findable that are stored; to be awaited before anything else. */
  start(onProgress?: (replayed: number) => void): Promise<{ replayed: number; removed: number }>
  /** Makes the next start short. */
  save(): Promise<void>
  /** The processes that the collection needs, those of the models among them. */
  readonly workers: readonly WorkerStatus[]
  /** Change of bundle, copies and restore: of the embedded collection alone, null elsewhere. */
  readonly upkeep: Upkeep | null
  /** Of the engine elsewhere that keeps the items; null where they are kept in this process. */
  readonly engine: EngineStatus | null
  /** Ends what is under way, and closes the models too. */
  close(): Promise<void>
}

/**
 * The collection whose items lie in an item store and a vector index of this process.
 *
 * @param rooms - of the bundle that serves; they are closed with the collection
 * @param onClosed - called when they are
 */
export function openEmbedded(
  rooms: Rooms,
  shelf: BundleShelf,
  onClosed?: () => Promise<void>,
): EmbeddedCollection {
  return new EmbeddedCollection(rooms, shelf, onClosed)
}

/**
 * The collection of a service that encodes for others and keeps nothing: whatever asks for items is
 * refused as `not_supported`.
 * @param models - closed with the collection
 */
export function openItemless(models: Models): Collection {
  return new ItemlessCollection(models)
}

/**
 * The collection whose items lie in Milvus, where other services reach them too.
 *
 * @param models - and items are closed with the collection
 * @param onClosed - called once the items are
 */
export function openShared(models: Models, items: MilvusItems, onClosed: () => void): Collection {
  return new SharedCollection(models, items, onClosed)
}
