/**
 * Contract of the image store: images of items that several services share, in a folder or in a
 * bucket (S3).
 *
 * Each `put` has a key of its own, which is never written again and contains the digest of the
 * bytes. So an image is whole or absent, and replacing an item cannot mix two images: put the new
 * image, write the item with its key, then remove the former image. An interruption leaves at most
 * an image that no item names (see `list`), never an item without its image.
 *
 * An item may be replaced between reading it and reading its image; then read both again.
 */

export interface StoreCall {
  /** Ends the wait; the operation may still complete. */
  signal?: AbortSignal | undefined
}

/** An image as `list` returns it. */
export interface StoredImage {
  key: string
  storedAt: Date
}

/**
 * All methods throw TandemError image_store_failed, image_store_unavailable or image_store_timeout.
 */
export interface ImageStore {
  /**
   * Stores the image of an item, whole and durable when it resolves.
   * @returns its key, 120 characters of ASCII
   * @throws TandemError also storage_full and storage_read_only for a folder
   */
  put(id: string, bytes: Uint8Array, call?: StoreCall): Promise<string>
  /** Undefined where the image does not exist. */
  get(key: string, call?: StoreCall): Promise<Uint8Array | undefined>
  /** No error where the image does not exist. */
  remove(key: string, call?: StoreCall): Promise<void>
  /** All images, unordered, with the remains of interrupted puts. */
  list(call?: StoreCall): AsyncIterable<StoredImage>
  close(): void
}

/** `prefix` precedes each key, with a slash between; it may be empty. */
export type ImageStorePlace = { folder: string } | { bucket: string; prefix: string }

/** What a folder and a bucket have in common: bytes under keys. */
export interface Place {
  /** Whole and durable when it resolves; no key is put twice. */
  put(key: string, bytes: Uint8Array, signal: AbortSignal): Promise<void>
  get(key: string, signal: AbortSignal): Promise<Uint8Array | undefined>
  remove(key: string, signal: AbortSignal): Promise<void>
  list(signal?: AbortSignal): AsyncIterable<StoredImage>
  close(): void
}
