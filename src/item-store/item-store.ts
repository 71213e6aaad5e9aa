/**
 * DOOR of the item store: everything kept of an item, durable. It is the truth; the vector index is
 * rebuilt from it.
 *
 * An item is what a client gave, and its encodings: what the serving bundle, and perhaps one that
 * stands by, made of its image. An `ItemStore` shows the items with the encodings of one bundle.
 */
import { openLmdbItemStore } from './lmdb-item-store.js'

export { newItem } from './new-item.js'
export { StoreMismatchError } from './stamp.js'

/** What a client keeps beside its image: a JSON object. */
export type Payload = Readonly<Record<string, unknown>>

/** What one bundle makes of an image. */
export interface Encoding {
  embedding: Float32Array
  imageTokens: Int8Array
}

export interface Item extends Encoding {
  id: string
  payload: Payload | null
  /** Of the stored image; `size` in bytes. The bytes themselves come from `image(id)`. */
  image: { mime: string; width: number; height: number; size: number }
  /** ISO 8601, UTC. */
  addedAt: string
  /** The place of the item's last change in the sequence of all changes. */
  position: number
}

export interface NewItem extends Encoding {
  id: string
  payload: Payload | null
  image: { bytes: Uint8Array; mime: string; width: number; height: number }
  /** Kept when an item moves to another store; the present time when absent. */
  addedAt?: string
}

/** A bundle as the store remembers it. */
export interface NamedBundle {
  /** Of its folder; null where the store was never told. */
  name: string | null
  fingerprint: string
}

/** Where an item's last change stands in the sequence of all changes. */
export interface Change {
  id: string
  position: number
}

/**
 * Which bundle serves, and which one stands by to take its place: its encodings are kept beside
 * those of the other, and follow the changes of the items until they are level.
 */
export interface Bundles {
  readonly serving: NamedBundle
  readonly standby: NamedBundle | null
  /**
   * Makes a bundle stand by, with no encodings yet. Durable when it resolves, as the others.
   * @throws Error where one stands by already, or it is the one that serves
   */
  begin(standby: { name: string; fingerprint: string }): Promise<void>
  /** Drops the standby and its encodings. */
  end(): Promise<void>
  /**
   * The standby serves from now on, and the bundle that served stands by, level as it is.
   * @throws Error where the standby is not level with the items
   */
  switch(): Promise<void>
  /** The items with the encodings of the bundle of this fingerprint, of the two. */
  view(fingerprint: string): ItemStore
}

/**
 * The items with the encodings of one bundle. Those of a standby are the ones that it has followed
 * so far; only the serving one takes items.
 */
export interface ItemStore {
  /**
   * Adds or replaces, all or none. Durable (flushed to the disk) when it resolves; concurrent
   * callers share a commit.
   * @throws TandemError `storage_full` or `storage_read_only` when the disk is
   */
  put(items: readonly NewItem[]): Promise<{ position: number; replaced: number }>
  /** Durable when it resolves; `removed` are those that were there. */
  remove(ids: readonly string[]): Promise<{ position: number; removed: string[] }>
  get(id: string): Item | undefined
  getMany(ids: readonly string[]): (Item | undefined)[]
  /** Null for an item without payload, undefined where there is no item; cheaper than `get`. */
  payload(id: string): Payload | null | undefined
  /**
   * Undefined where there is no such item, or the bundle has not encoded it yet; cheaper than
   * `get`.
   */
  embedding(id: string): Float32Array | undefined
  /**
   * Payloads of items changed after `position`, up to `limit` of them in the order of the changes,
   * and the position that has been looked up to: that of the last change where these are all.
   * Removed items are not among them.
   */
  payloadsSince(
    position: number,
    limit: number,
  ): { payloads: { id: string; payload: Payload | null }[]; position: number }
  /** The bytes of the stored image. */
  image(id: string): Uint8Array | undefined
  has(id: string): boolean
  /** Items in the order of their ids, those after `after`. */
  list(options: { after?: string; limit: number }): Item[]
  /**
   * Items changed after `position`, in the order of the changes. Removed items are not among them.
   */
  since(position: number): Iterable<Item>
  /**
   * Writes a copy of one moment into `folder`, which is made: a store of its own, to be opened as
   * any other. Reads and writes go on meanwhile. It is not flushed to the disk.
   * @throws TandemError `storage_full` or `storage_read_only` when the disk of `folder` is; a part
   *   of it may be there then
   */
  copyTo(folder: string): Promise<Copied>
  /** Of its files: a copy takes no more. */
  bytesOnDisk(): number
  readonly size: number
  /**
   * The number of the last change; it never falls. Of a standby, the last one that it has followed.
   */
  readonly position: number
  /**
   * Of the bundle that made the embeddings and tokens: the one that serves, but for another `view`.
   */
  readonly fingerprint: string
  /**
   * Random, given when the store was made: what is derived from it, such as an index, names the
   * store by it.
   */
  readonly identity: string
  readonly bundles: Bundles
  /**
   * What a standby has to follow next: the oldest changes after its position, and the position that
   * it has once these are followed. Items removed since are not among them.
   */
  behind(limit: number): { changes: Change[]; position: number }
  /** How many items a standby has still to follow. */
  countBehind(): number
  /**
   * Keeps what a standby made of changes that were `behind`; of items that have changed again,
   * nothing.
   */
  follow(encodings: readonly (Change & Encoding)[], position: number): Promise<void>
  /** Closes the store, with all its views. */
  close(): Promise<void>
}

/** The moment of which a copy is. */
export type Copied = Pick<ItemStore, 'size' | 'position' | 'fingerprint'>

export interface ItemStoreOptions {
  /** Made when it is missing. */
  folder: string
  /**
   * Of the configured bundle; stamped on a new store. Null opens an existing store whatever its
   * stamp is.
   */
  fingerprint: string | null
  /** The folder of the configured bundle, by its name alone; the store remembers it. */
  name?: string
  /**
   * Called while the items of an earlier format are moved to the present one, with how many have
   * been.
   */
  onMigration?: (items: number) => void
  /**
   * Changes nothing in the folder, which may lie on a disk that cannot be written to: a store of
   * the present format.
   */
  readOnly?: boolean
}

/**
 * Opens the store, or makes it; one of an earlier format is migrated. The bundle that serves is
 * another than the configured one where it has been switched to since.
 *
 * @throws StoreMismatchError naming both fingerprints and the command that re-embeds the stored
 *   images
 */
export function openItemStore(options: ItemStoreOptions): Promise<ItemStore> {
  return openLmdbItemStore(options)
}
