/** Opens the image store of a collection, in a folder or in a bucket. */
import { join } from 'node:path'
import { within } from '../async/signals.js'
import { TandemError } from '../errors.js'
import { FolderPlace } from './folder-place.js'
import type { ImageStore, ImageStorePlace, Place, StoreCall } from './image-store.js'
import { checkedKey, matchesKey, newKey } from './key.js'

/** Limit for one call with its retries. */
const TIMEOUT_MS = 5000

export interface ImageStoreOptions {
  /** A missing folder is created; a bucket must exist. */
  place: ImageStorePlace
  /** Letters, digits, `_`, `-` and dots. Each collection has a folder of its own in the place. */
  collection: string
  /** Address of an S3-compatible server; AWS by default. */
  endpoint?: string | undefined
  region?: string
  timeoutMs?: number
}

/**
 * Opens the store and verifies that it can write, read and remove. Credentials of a bucket come
 * from the places of the AWS tools: `AWS_ACCESS_KEY_ID` and related variables, shared files, the
 * role of a container.
 *
 * @throws TandemError with a sentence that says what is wrong with the place
 */
export async function openImageStore(options: ImageStoreOptions): Promise<ImageStore> {
  const { timeoutMs = TIMEOUT_MS } = options
  const place = await openPlace({ ...options, timeoutMs })
  const timeoutError = (): TandemError => new TandemError('image_store_timeout', { ms: timeoutMs })
  const limited = <Result>(
    call: StoreCall | undefined,
    work: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> => within(timeoutMs, call?.signal, timeoutError, work)

  const store: ImageStore = {
    put: async (id, bytes, call) => {
      const key = newKey(id, bytes)
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
  await verify(store)
  return store
}

async function openPlace(options: ImageStoreOptions & { timeoutMs: number }): Promise<Place> {
  const { place, collection } = options
  if (!/^\w[\w.-]*$/.test(collection))
    throw new Error(`${JSON.stringify(collection)} cannot be the name of a folder`)
  if ('folder' in place) return new FolderPlace(join(place.folder, collection))
  // The SDK is large and not needed for a folder.
  const { openBucketPlace } = await import('./bucket-place.js')
  const { bucket, prefix } = place
  const path = prefix === '' ? collection : `${prefix}/${collection}`
  return openBucketPlace({ bucket, prefix: path }, options)
}

async function verify(store: ImageStore): Promise<void> {
  const bytes = new TextEncoder().encode('written and removed when a service starts')
  const key = await store.put('a service starts', bytes)
  await store.get(key)
  await store.remove(key)
}
