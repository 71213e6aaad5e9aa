/**
 * The items of any number of services in one collection of Milvus, a vector database.
 *
 * A row holds all of an item but the bytes of its image: these lie in an image store, under the key
 * in the row. An image is stored before its row and removed after it. Services keep no state.
 */
import type { ImageStore } from '../../image-store/image-store.js'
import type { CallContext, EngineStatus, Items } from '../collection.js'
import type { NewItem } from '../../item-store/item-store.js'

/**
 * All methods throw TandemError `engine_unavailable`, `engine_timeout` or `engine_failed`, or the
 * reason of the signal. Calls that lost their connection are repeated until their time is up.
 */
export interface MilvusItems extends Items {
  /**
   * Makes the collection if it is missing, and loads it. Call it before any other method.
   * @param waitMs - how long to wait for an unavailable Milvus: by default 20 seconds, for commands
   * @throws Error with a sentence for the terminal: the collection is of another bundle, or Milvus
   *   refuses
   */
  start(waitMs?: number): Promise<void>
  /** Every item with the key of its image, in the order of the ids. */
  imageKeys(): AsyncIterable<{ id: string; key: string }>
  /** Counts the items; `size` is the last count plus the changes of this service. */
  count(call?: CallContext): Promise<number>
  /**
   * Adds or replaces; durable and visible to every service when it resolves. The item may be
   * stored even when this fails.
   * @throws TandemError also `payload_invalid`, and those of the image store
   */
  put(item: NewItem, call?: CallContext): Promise<'created' | 'replaced'>
  /** Resolves, once it is durable, to whether the item existed. */
  remove(id: string): Promise<boolean>
  readonly status: EngineStatus
  /** Closes the connection after pending writes. */
  close(): Promise<void>
}

export interface MilvusOptions {
  /** `host:port`, or a URL; https means TLS. */
  address: string
  /** `user:password`, or a key. */
  token: string | undefined
  /** Undefined for the default one. */
  database: string | undefined
  /** Made if it is missing. */
  collection: string
  /** For one call, its retries included. */
  timeoutMs: number
  /** Of the bundle that makes the embeddings. */
  fingerprint: string
  /** Values of an embedding. */
  dim: number
  images: Pick<ImageStore, 'put' | 'get' | 'remove'>
  /** Called with a sentence for the log when the connection is lost or back. */
  report?: (sentence: string) => void
}
