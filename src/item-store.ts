/**
 * DOOR of the item store: everything kept of an item, durable. It is the truth; the vector index is rebuilt from it.
 *
 * An item is what a client gave, and its encodings: what the serving bundle, and perhaps one that stands by, made of its
 * picture. An `ItemStore` shows the items with the encodings of one bundle.
 */
import { openLmdbItemStore } from './item-store/lmdb-item-store.js'

export { StoreMismatchError } from './item-store/stamp.js'

/** What a client keeps beside its picture: a JSON object. */
export type Payload = Readonly<Record<string, unknown>>

/** What one bundle makes of a picture. */
export interface Encoding {
  embedding: Float32Array
  imageTokens: Int8Array
}

export interface Item extends Encoding {
  id: string
  payload: Payload | null
  /** Of the stored picture; `size` in bytes. The bytes themselves come from `picture(id)`. */
  picture: { mime: string; width: number; height: number; size: number }
  /** ISO 8601, UTC. */
  addedAt: string
  /** The place of the item's last change in the sequence of all changes. */
  position: number
}

export interface NewItem extends Encoding {
  id: string
  payload: Payload | null
  picture: { bytes: Uint8Array; mime: string; width: number; height: number }
  /** Kept when an item moves to another store; the present time when absent. */
  addedAt?: string
}

/** A bundle as the store remembers it. */
export interface NamedBundle {
  /** Of its folder; null where the store was never told. */
  name: string | null
  fingerprint: string
}

export interface ItemStore {
  /**
   * Adds or replaces, all or none. Durable (flushed to the disk) when it resolves; concurrent callers share a commit.
   * @throws TandemError `storage_full` or `storage_read_only` when the disk is
   */
  put(items: readonly NewItem[]): Promise<{ position: number; replaced: number }>
  /** Durable when it resolves; `removed` are those that were there. */
  remove(ids: readonly string[]): Promise<{ position: number; removed: string[] }>
  get(id: string): Item | undefined
  getMany(ids: readonly string[]): (Item | undefined)[]
  /** The bytes of the stored picture. */
  picture(id: string): Uint8Array | undefined
  has(id: string): boolean
  /** Items in the order of their ids, those after `after`. */
  list(options: { after?: string; limit: number }): Item[]
  /** Items changed after `position`, in the order of the changes. Removed items are not among them. */
  since(position: number): Iterable<Item>
  readonly size: number
  /** The number of the last change; it never falls. */
  readonly position: number
  /** Of the bundle that made the embeddings and tokens: the one that serves. */
  readonly fingerprint: string
  /** The bundle that serves. */
  readonly serving: NamedBundle
  /** Random, given when the store was made: what is derived from it, such as an index, names the store by it. */
  readonly identity: string
  close(): Promise<void>
}

export interface ItemStoreOptions {
  /** Made when it is missing. */
  folder: string
  /** Of the configured bundle; stamped on a new store. Null opens an existing store whatever its stamp is. */
  fingerprint: string | null
  /** The folder of the configured bundle, by its name alone; the store remembers it. */
  name?: string
  /** Called while the items of an earlier format are moved to the present one, with how many have been. */
  onMigration?: (items: number) => void
}

/**
 * Opens the store, or makes it; one of an earlier format is migrated. Its `serving` bundle is another than the configured
 * one where it has been switched to since.
 *
 * @throws StoreMismatchError naming both fingerprints and the command that re-embeds the stored pictures
 */
export function openItemStore(options: ItemStoreOptions): Promise<ItemStore> {
  return openLmdbItemStore(options)
}
