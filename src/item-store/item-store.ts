/**
 * Contract of the item store: each item with its encodings, durable. The store is the truth; the
 * vector index is rebuilt from it.
 *
 * A client gives an item. The serving bundle makes an encoding of its image, and during a
 * re-embedding so does the next bundle. An `ItemStore` shows the items with the encodings of one
 * bundle.
 */

export interface Verification {
  /** Items whose record, image or encoding is not what was stored. */
  damaged: string[]
  /** Sound as far as can be seen: stored by a version that added no digests. */
  withoutDigest: number
  /** Entries of tables that belong to no item. */
  orphans: string[]
}

/** A JSON object that a client stores with an image. */
export type Payload = Readonly<Record<string, unknown>>

/** Result of one bundle for one image. */
export interface Encoding {
  embedding: Float32Array
  imageTokens: Int8Array
}

export interface Item extends Encoding {
  id: string
  payload: Payload | null
  /** Of the stored image; `size` in bytes. `image(id)` returns the bytes. */
  image: { mime: string; width: number; height: number; size: number }
  /** ISO 8601, UTC. */
  addedAt: string
  /** Number of the item's last change in the sequence of all changes. */
  position: number
}

export interface NewItem extends Encoding {
  id: string
  payload: Payload | null
  image: { bytes: Uint8Array; mime: string; width: number; height: number }
  /** Given when an item moves from another store; the present time by default. */
  addedAt?: string
}

/** @returns a stored item in the form in which another store takes it */
export function newItem(item: Omit<Item, 'position'>, bytes: Uint8Array): NewItem {
  const { id, payload, embedding, imageTokens, addedAt } = item
  const { mime, width, height } = item.image
  return { id, payload, embedding, imageTokens, addedAt, image: { bytes, mime, width, height } }
}

export interface NamedBundle {
  /** Name of its folder; null where the store does not know it. */
  name: string | null
  fingerprint: string
}

/** An item and the number of its last change. */
export interface Change {
  id: string
  position: number
}

/**
 * The serving bundle and, during a re-embedding, the next one. The store keeps the encodings of
 * both, and those of the next bundle catch up with the items.
 */
export interface Bundles {
  readonly serving: NamedBundle
  readonly next: NamedBundle | null
  /**
   * Adds a next bundle, without encodings. Durable when it resolves, like the other methods.
   * @throws Error if there is a next bundle already, or it is the serving one
   */
  begin(next: { name: string; fingerprint: string }): Promise<void>
  /** Removes the next bundle and its encodings. */
  end(): Promise<void>
  /**
   * The next bundle becomes the serving one, and the serving one the next, without lag.
   * @throws Error if the next bundle lags behind the items
   */
  promote(): Promise<void>
  /** The items with the encodings of the bundle of this fingerprint, one of the two. */
  view(fingerprint: string): ItemStore
}

/**
 * The items with the encodings of one bundle. A view of the next bundle has the items that were
 * encoded so far; only the view of the serving bundle takes items.
 */
export interface ItemStore {
  /**
   * Adds or replaces, all or none. Durable (flushed to the disk) when it resolves; concurrent
   * callers share a commit.
   * @throws TandemError storage_full, storage_read_only
   */
  put(items: readonly NewItem[]): Promise<{ position: number; replaced: number }>
  /** Durable when it resolves. @returns the ids that existed */
  remove(ids: readonly string[]): Promise<{ position: number; removed: string[] }>
  /** Undefined where the item does not exist or the bundle has not encoded it. */
  get(id: string): Item | undefined
  getMany(ids: readonly string[]): (Item | undefined)[]
  /** Null for an item without payload, undefined without item; cheaper than `get`. */
  payload(id: string): Payload | null | undefined
  /** Undefined as in `get`; cheaper. */
  embedding(id: string): Float32Array | undefined
  /**
   * Payloads of at most `limit` items changed after `position`, in the order of the changes and
   * without removed items. The returned position is that of the last change that was read.
   */
  payloadsSince(
    position: number,
    limit: number,
  ): { payloads: { id: string; payload: Payload | null }[]; position: number }
  /**
   * Bytes of the stored image.
   * @throws TandemError item_damaged when they differ from their digest
   */
  image(id: string): Uint8Array | undefined
  has(id: string): boolean
  /** Items with ids greater than `after`, in the order of ids. */
  list(options: { after?: string; limit: number }): Item[]
  /** Items changed after `position`, in the order of the changes, without removed items. */
  since(position: number): Iterable<Item>
  /**
   * Writes a consistent copy, a store of its own, into a new `folder`. Reads and writes continue.
   * The copy is not flushed to the disk.
   * @throws TandemError storage_full, storage_read_only; a part of the copy may remain
   */
  copyTo(folder: string): Promise<Copied>
  /** Compares all items with their digests, and the tables with each other. */
  verify(): Verification
  /** Size of its files, and an upper bound for a copy. */
  bytesOnDisk(): number
  readonly size: number
  /** Number of the last change, or of the last one that the next bundle encoded. Never falls. */
  readonly position: number
  /** Of the bundle that made the encodings of this view. */
  readonly fingerprint: string
  /** Random and unique. Derived data, such as an index, names its store by it. */
  readonly identity: string
  readonly bundles: Bundles
  /**
   * The oldest changes that the next bundle has not encoded, without removed items, and its
   * position after them.
   */
  pending(limit: number): { changes: Change[]; position: number }
  /** How many items the next bundle has not encoded. */
  readonly lag: number
  /** Stores encodings of pending changes; skips items that have changed since. */
  addEncodings(encodings: readonly (Change & Encoding)[], position: number): Promise<void>
  /** Closes the store and all its views. */
  close(): Promise<void>
}

/** State of a store at the moment of its copy. */
export type Copied = Pick<ItemStore, 'size' | 'position' | 'fingerprint'>
