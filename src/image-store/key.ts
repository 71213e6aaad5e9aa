/**
 * Keys of images: `ab/cd/DIGEST-RANDOM-CHECK`.
 *
 * DIGEST is the sha256 of the id, so that no id, however written, is a path, and its first two
 * bytes fan folders out. RANDOM makes the key of every put another one. CHECK, from the sha256 of
 * the bytes, tells an image that was cut short or changed from the one that was put.
 */
import { createHash, randomBytes } from 'node:crypto'

const KEY = /^([0-9a-f]{2})\/([0-9a-f]{2})\/\1\2[0-9a-f]{60}-[0-9a-f]{16}-([0-9a-f]{32})(\.part)?$/

export function freshKey(id: string, bytes: Uint8Array): string {
  const digest = sha256(id)
  return `${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest}-${randomBytes(8).toString('hex')}-${checkOf(bytes)}`
}

/** Where the bytes of a key are written until they are whole. */
export function unfinished(key: string): string {
  return `${key}.part`
}

/** Whether a name that was found in a place is one of ours, finished or not. */
export function isKey(name: string): boolean {
  return KEY.test(name)
}

/**
 * The key itself. It comes from an item, and whoever can write items there is not to choose a path
 * with it.
 * @throws Error for anything that `freshKey` does not make
 */
export function checkedKey(key: string): string {
  if (isKey(key)) return key
  throw new Error(`${JSON.stringify(key.slice(0, 200))} is no key of an image`)
}

/** What the bytes under a key have to be. */
export function matchesKey(key: string, bytes: Uint8Array): boolean {
  return KEY.exec(key)?.[3] === checkOf(bytes)
}

function checkOf(bytes: Uint8Array): string {
  return sha256(bytes).slice(0, 32)
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}
