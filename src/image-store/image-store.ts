/**
 * DOOR of the image store: the images of items that several services share, in a folder or in a
 * bucket (S3).
 *
 * Each `put` keeps its bytes under a key of its own, which is never written again, and the key
 * holds the digest of the bytes. So an image is whole or not there, and replacing an item cannot
 * mix two: put the new image, write the item that names its key, then remove the image before it.
 * Where that is cut short an image stays that no item names (see `list`); never does an item name
 * an image that is not there.
 *
 * Whoever reads an item and then its image may find none, because the item was replaced in between:
 * read both again.
 */
import { join } from 'node:path'
import { TandemError } from '../errors.js'
import { FolderPlace } from './folder-place.js'
import { checkedKey, freshKey, matchesKey } from './key.js'
import type { Kept, Place } from './place.js'
import { within } from '../async/signals.js'

export type { Kept }

/** A request on whose behalf the store is asked. */
export interface ImageCall {
  /** Ends the waiting; what was begun may still come to its end. */
  signal?: AbortSignal | undefined
}

/**
 * All of them throw TandemError `image_store_failed`, `image_store_unavailable` or
 * `image_store_timeout`.
 */
export interface ImageStore {
  /**
   * Keeps the image of an item, whole and durable when it resolves.
   * @returns the key to find it by, 120 characters of ASCII
   * @throws TandemError also `storage_full`, `storage_read_only` where a folder's disk is
   */
  put(id: string, bytes: Uint8Array, call?: ImageCall): Promise<string>
  /** The bytes as they were put; undefined where there is no such image. */
  get(key: string, call?: ImageCall): Promise<Uint8Array | undefined>
  /** Nothing happens where there is no such image. */
  remove(key: string, call?: ImageCall): Promise<void>
  /**
   * Everything kept, in no order, with what an interrupted `put` left; to remove what no item
   * names.
   */
  list(call?: ImageCall): AsyncIterable<Kept>
  close(): void
}

/** Where images are kept. */
export type ImagePlace =
  | { folder: string }
  /** `prefix` goes before everything, with a slash between; it may be empty. */
  | { bucket: string; prefix: string }

export interface ImageStoreOptions {
  /** A folder is made when it is missing; a bucket has to be there. */
  place: ImagePlace
  /**
   * Letters, digits, `_`, `-` and dots. Collections have folders of their own in a place: none sees
   * another's images.
   */
  collection: string
  /**
   * Address of an S3-compatible server; without one, that of AWS in the region. Of no meaning to a
   * folder.
   */
  endpoint?: string | undefined
  region?: string
  /** For one call, its retries included, in milliseconds. */
  timeoutMs?: number
}

const TIMEOUT_MS = 5000

/**
 * Opens the store, and tries it by keeping, reading and removing a few bytes. The credentials of a
 * bucket come from where the AWS tools look for them: `AWS_ACCESS_KEY_ID` and the other variables,
 * the shared files, the role of a container.
 *
 * @throws TandemError with a sentence that says what is wrong with the place
 */
export async function openImageStore(options: ImageStoreOptions): Promise<ImageStore> {
  const { timeoutMs = TIMEOUT_MS } = options
  const place = await openPlace({ ...options, timeoutMs })
  const timeUp = (): TandemError => new TandemError('image_store_timeout', { ms: timeoutMs })
  const limited = <Result>(
    call: ImageCall | undefined,
    work: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> => within(timeoutMs, call?.signal, timeUp, work)

  const store: ImageStore = {
    put: async (id, bytes, call) => {
      const key = freshKey(id, bytes)
      await limited(call, (signal) => place.put(key, bytes, signal))
      return key
    },
    get: async (key, call) => {
      const bytes = await limited(call, (signal) => place.get(checkedKey(key), signal))
      if (bytes === undefined || matchesKey(key, bytes)) return bytes
      throw new TandemError(
        'image_store_failed',
        'The image is not the one that was stored: its bytes have changed.',
      )
    },
    remove: (key, call) => limited(call, (signal) => place.remove(checkedKey(key), signal)),
    list: (call) => place.list(call?.signal),
    close: () => place.close(),
  }
  await tried(store)
  return store
}

async function openPlace({
  place,
  collection,
  ...options
}: ImageStoreOptions & { timeoutMs: number }): Promise<Place> {
  if (!/^\w[\w.-]*$/.test(collection))
    throw new Error(`${JSON.stringify(collection)} cannot be the name of a folder`)
  if ('folder' in place) return new FolderPlace(join(place.folder, collection))
  // The SDK is large, and whoever keeps images in a folder does without it.
  const { openBucketPlace } = await import('./bucket-place.js')
  const { bucket, prefix } = place
  return openBucketPlace(
    { bucket, prefix: prefix === '' ? collection : `${prefix}/${collection}` },
    options,
  )
}

async function tried(store: ImageStore): Promise<void> {
  const bytes = new TextEncoder().encode('written and removed when a service starts')
  const key = await store.put('a service starts', bytes)
  await store.get(key)
  await store.remove(key)
}
