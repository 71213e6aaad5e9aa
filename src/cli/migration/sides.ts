/** Contract of the two collections of a migration. */
import type { Item, ListedItem } from '../../collection/collection.js'
import type { Neighbour } from '../../vector-index/vector-index.js'
import type { NewItem } from '../../item-store/item-store.js'

export interface Side {
  /** For messages, such as "the data folder /var/lib/tandem". */
  readonly name: string
  /** Number of items, as far as known. */
  readonly size: number
  /** All items, in pages in the order of their ids. */
  pages(): AsyncIterable<readonly ListedItem[]>
  getMany(ids: readonly string[]): Promise<(Item | undefined)[]>
  image(id: string): Promise<Uint8Array | undefined>
}

export interface Source extends Side {
  /** Number of the last change; 0 where changes have no numbers. */
  readonly position: number
  /** All items, or those that may have changed since the last walk began. */
  walk(all: boolean): AsyncIterable<readonly ListedItem[]>
  /** Those of `ids` that the last walk did not find. */
  gone(ids: Iterable<string>): string[]
  /**
   * Items with their images, without those that were removed.
   * @throws Error if the source has changed its bundle since it was opened
   */
  read(ids: readonly string[]): Promise<NewItem[]>
}

export interface Target extends Side {
  /** Durable when it resolves. */
  put(items: readonly NewItem[]): Promise<void>
  remove(ids: readonly string[]): Promise<void>
}

/** A side whose searches are compared with exact search. */
export interface Searched extends Side {
  recall(embedding: Float32Array, k: number): Promise<Neighbour[]>
}
