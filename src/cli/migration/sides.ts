/** What a migration asks of the collection that it reads from, and of the one that it writes to. */
import type { Item, ListedItem, Neighbour, NewItem } from '../../collection/collection.js'

export interface Side {
  /** In words: "the data folder /var/lib/tandem". */
  readonly name: string
  /** How many items there are, as far as is known. */
  readonly size: number
  /** All items, in pages in the order of their ids. */
  pages(): AsyncIterable<readonly ListedItem[]>
  getMany(ids: readonly string[]): Promise<(Item | undefined)[]>
  image(id: string): Promise<Uint8Array | undefined>
}

export interface Source extends Side {
  /** The number of the last change; always 0 where changes are not numbered. */
  readonly position: number
  /** All items, or those that may have changed since the last walk began. */
  walk(all: boolean): AsyncIterable<readonly ListedItem[]>
  /** Those of `ids` that are no longer there, as the last walk found it. */
  gone(ids: Iterable<string>): string[]
  /**
   * Items with their images, as they are; those that have gone are left out.
   * @throws Error where the source is no longer what it was when it was opened
   */
  read(ids: readonly string[]): Promise<NewItem[]>
}

export interface Target extends Side {
  /** Durable when it resolves. */
  put(items: readonly NewItem[]): Promise<void>
  remove(ids: readonly string[]): Promise<void>
}

/** A side whose searches are compared. */
export interface Searched extends Side {
  recall(embedding: Float32Array, k: number): Promise<Neighbour[]>
}
