/**
 * Keys of images: `ab/cd/DIGEST-RANDOM-CHECK`.
 *
 * DIGEST is the sha256 of the id, so that an id never becomes a path; its first two bytes spread
 * images over folders. RANDOM makes each key unique. CHECK, from the sha256 of the bytes, reveals
 * an image that was truncated or changed.
 */
import { createHash, randomBytes } from 'node:crypto'

const KEY = /^([0-9a-f]{2})\/([0-9a-f]{2})\/\1\2[0-9a-f]{60}-[0-9a-f]{16}-([0-9a-f]{32})(\.part)?$/

export function newKey(id: string, bytes: Uint8Array): string {
  const digest = sha256(id)
  return `${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest}-${randomBytes(8).toString('hex')}-${checkOf(bytes)}`
}

/** Name of the file while it is being written. */
export function unfinished(key: string): string {
  return `${key}.part`
}

/** Whether a name in a place is a key, or a file that is being written. */
export function isKey(name: string): boolean {
  return KEY.test(name)
}

/**
 * Returns the key. A key comes from an item, and a writer of items must not choose a path.
 * @throws Error unless `newKey` can have made it
 */
export function checkedKey(key: string): string {
  if (isKey(key)) return key
  throw new Error(`${JSON.stringify(key.slice(0, 200))} is not the key of an image`)
}

/** Whether the bytes are those that were put under the key. */
export function matchesKey(key: string, bytes: Uint8Array): boolean {
  return KEY.exec(key)?.[3] === checkOf(bytes)
}

function checkOf(bytes: Uint8Array): string {
  return sha256(bytes).slice(0, 32)
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}
