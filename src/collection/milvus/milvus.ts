/**
 * DOOR of Milvus: the items of any number of services in one collection of a vector database.
 *
 * A row holds everything of an item but the bytes of its image, which lie in an image store: the
 * row has their key. An image is there before the row that names it, and goes after it. Milvus is
 * the truth: a service keeps nothing.
 */
import { Items } from './items.js'
import type { Consistency } from './engine.js'
import type { EngineStatus } from './calls.js'
import type { Filter } from '../../filter/filter.js'

export type { Consistency, EngineStatus, Filter }

/** An item as it is stored; `image.size` in bytes. */
export interface MilvusItem {
  id: string
  payload: Readonly<Record<string, unknown>> | null
  embedding: Float32Array
  imageTokens: Int8Array
  image: { mime: string; width: number; height: number; size: number }
  /** ISO 8601, UTC. */
  addedAt: string
}

export type ListedMilvusItem = Omit<MilvusItem, 'embedding' | 'imageTokens'>

/** `addedAt` is the present time when absent. */
export interface NewMilvusItem extends Omit<MilvusItem, 'image' | 'addedAt'> {
  image: { bytes: Uint8Array; mime: string; width: number; height: number }
  addedAt?: string
}

/**
 * On whose behalf Milvus is asked: nothing waits longer than until `deadline`, on the clock of
 * `performance.now()`.
 */
export interface Asker {
  signal?: AbortSignal | undefined
  deadline?: number | undefined
}

/** Where the bytes of images are; the image store is one. */
export interface Images {
  put(id: string, bytes: Uint8Array): Promise<string>
  get(key: string, call?: { signal?: AbortSignal | undefined }): Promise<Uint8Array | undefined>
  remove(key: string): Promise<void>
}

/**
 * All of them throw TandemError `engine_unavailable`, `engine_timeout` or `engine_failed`, or the
 * reason of the asker's signal. Reads, and writes that may be done twice, are tried again where the
 * connection was lost, until the time is up.
 */
export interface MilvusItems {
  /**
   * Makes the collection where there is none, and loads it; to be awaited before anything else.
   * @param patienceMs - how long a Milvus that is away is waited for: 20 seconds, which suit a
   *   command, without it
   * @throws Error with a sentence that says what is wrong: the collection is of another bundle, or
   *   Milvus refuses
   */
  start(patienceMs?: number): Promise<void>
  /**
   * The `candidates` nearest items by cosine similarity, best first, of those whose payload the
   * filter holds for.
   */
  recall(
    embedding: Float32Array,
    candidates: number,
    asker?: Asker & { filter?: Filter | undefined },
  ): Promise<{ id: string; similarity: number }[]>
  /** In the order of `ids`; undefined where there is no such item. */
  getMany(ids: readonly string[], asker?: Asker): Promise<(MilvusItem | undefined)[]>
  /** As `getMany`, of each item the payload alone, null where it has none. */
  payloads(ids: readonly string[], asker?: Asker): Promise<(MilvusItem['payload'] | undefined)[]>
  /** The bytes of the stored image. */
  image(id: string, asker?: Asker): Promise<Uint8Array | undefined>
  /** In the order of the bytes of their ids, those after `after`. */
  list(
    page: { after?: string | undefined; limit: number },
    asker?: Asker,
  ): Promise<ListedMilvusItem[]>
  /** Every item with the key of its image, in the order of the ids. */
  imageKeys(): AsyncIterable<{ id: string; key: string }>
  /** How many there were when that was last counted, with what this service has changed since. */
  readonly size: number
  /** Counts the items. */
  count(asker?: Asker): Promise<number>
  /**
   * Adds or replaces; durable when it resolves, and found by every service that reads with
   * consistency `strong`. Where it fails the item may have been stored.
   * @throws TandemError also `payload_invalid`, or what the image store meets
   */
  put(item: NewMilvusItem, asker?: Asker): Promise<'created' | 'replaced'>
  /** Resolves, once it is durable, to whether there was one. */
  remove(id: string, asker?: Asker): Promise<boolean>
  readonly status: EngineStatus
  /** Ends the connection once what is under way has ended. */
  close(): Promise<void>
}

export interface MilvusOptions {
  /** `host:port`, or a URL, where https means TLS. */
  address: string
  /** `user:password`, or a key; undefined where Milvus asks for none. */
  token: string | undefined
  /** Undefined for the default one. */
  database: string | undefined
  /** Made when it is missing. */
  collection: string
  /** Of searches and reads; what a write has to know is read as `strong`. */
  consistency: Consistency
  /** For one call, its retries included. */
  timeoutMs: number
  /** Of the bundle that makes the embeddings, and how many values these have. */
  fingerprint: string
  dim: number
  images: Images
  /** Told, as a sentence for the log, what happens to the connection. */
  report?: (sentence: string) => void
}

/** Items that are to be started; nothing has been asked of Milvus yet. */
export function connectMilvus(options: MilvusOptions): MilvusItems {
  return new Items(options)
}

/**
 * Items that have been started. @throws Error as `start`, also where Milvus is away for 20 seconds
 */
export async function openMilvus(options: MilvusOptions): Promise<MilvusItems> {
  const items = connectMilvus(options)
  try {
    await items.start()
    return items
  } catch (error) {
    await items.close().catch(() => undefined)
    throw error
  }
}
