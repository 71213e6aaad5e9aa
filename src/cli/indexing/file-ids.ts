/** The ids that files are stored under. */
import { createHash } from 'node:crypto'
import { basename } from 'node:path'

const MAX_ID_LENGTH = 256
const NOT_IN_AN_ID = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_C}\p{NChar}]/gu

/** The path if it is a valid id, otherwise a valid id like it that ends in a hash of the path. */
export function idOfPath(path: string, hashed: string | Buffer | undefined = undefined): string {
  const plain = path.replace(NOT_IN_AN_ID, '_').trim()
  if (plain === path && path.length <= MAX_ID_LENGTH && hashed === undefined) return path
  return `${[...plain].slice(-200).join('').trim()}~${hashOf(hashed ?? path)}`
}

/**
 * The id of a file: name and hash of its root, then its path. Files of two folders never share one.
 *
 * @param bytes - the path as bytes, if it is not UTF-8
 */
export function idOfFile(root: string, path: string, bytes?: Buffer): string {
  const label = `${basename(root)}~${hashOf(root).slice(0, 6)}`
  const id = `${label}/${path}`
  return idOfPath(id, bytes && Buffer.concat([Buffer.from(`${label}/`), bytes]))
}

function hashOf(value: string | Buffer): string {
  return createHash('sha256').update(value).digest('hex').slice(0, 12)
}
