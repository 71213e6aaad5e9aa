/** The payload of an item that `tandem index` makes of a file. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Payload } from '../../http/schemas/fields.js'
import type { StoredItem } from '../client.js'
import { idOfFile } from './file-ids.js'
import { METADATA_FIELDS, type Metadata } from './metadata.js'

/** Where the item is from. Only `index` writes these fields. */
export interface FileOrigin {
  root: string
  /** Below the root. */
  path: string
  sha256: string
}

/** The path of the file of an item; undefined for an item that `index` did not make. */
export function fileOf(payload: Payload | null): string | undefined {
  const { root, path } = payload ?? {}
  return typeof root === 'string' && typeof path === 'string' ? join(root, path) : undefined
}

/** Tells the metadata that `index` wrote from those that a client changed. */
const HASH = 'metadata_hash'

/** Whether the item of a file is up to date. */
export function isCurrent(stored: Payload | null, origin: FileOrigin, metadata: Metadata): boolean {
  return (
    stored?.['root'] === origin.root &&
    stored['sha256'] === origin.sha256 &&
    stored[HASH] === hashOf(metadata)
  )
}

/**
 * The stored payload with the values of the file. Metadata that a client has changed stay.
 *
 * @throws Error if a client gave a field of the origin another meaning
 */
export function filePayload(
  id: string,
  stored: Payload | null,
  origin: FileOrigin,
  metadata: Metadata,
): Payload {
  const isOwn = stored?.['root'] === origin.root
  const taken = isOwn ? undefined : Object.keys(origin).find((name) => stored?.[name] !== undefined)
  if (taken !== undefined) {
    throw new Error(
      `the item "${id}" has a field "${taken}" that a client gave, which would be lost`,
    )
  }
  return { ...withMetadata(stored, metadata), ...origin }
}

/** The payload of a renamed file: that of its former item, with the new origin. */
export function renamedPayload(
  former: Payload | null,
  origin: FileOrigin,
  metadata: Metadata,
): Payload {
  return { ...withMetadata(former, metadata), ...origin }
}

function withMetadata(stored: Payload | null, metadata: Metadata): Payload {
  const { [HASH]: hash, ...payload } = stored ?? {}
  const written = Object.fromEntries(
    METADATA_FIELDS.filter((name) => payload[name] !== undefined).map((name) => [
      name,
      payload[name],
    ]),
  )
  const isUnchanged = hash === hashOf(written)
  if (isUnchanged) for (const name of METADATA_FIELDS) delete payload[name]
  const current = hashOf(metadata)
  return { ...metadata, ...payload, ...(current === undefined ? {} : { [HASH]: current }) }
}

function hashOf(metadata: Metadata): string | undefined {
  const values = METADATA_FIELDS.map((name) => metadata[name] ?? null)
  if (values.every((value) => value === null)) return undefined
  return createHash('sha256').update(JSON.stringify(values)).digest('hex').slice(0, 16)
}

/** The origin that an item states, if `index` made the item from it; and the file. */
export function originOf({
  id,
  payload,
}: Pick<StoredItem, 'id' | 'payload'>): (FileOrigin & { file: Buffer }) | undefined {
  const { root, path, sha256 } = payload ?? {}
  if (typeof root !== 'string' || typeof path !== 'string' || typeof sha256 !== 'string')
    return undefined
  const bytes = escapedBytes(path)
  const isText = id === idOfFile(root, path)
  if (!isText && id !== idOfFile(root, path, bytes)) return undefined
  const below = isText ? Buffer.from(path) : bytes
  return { root, path, sha256, file: Buffer.concat([Buffer.from(`${root}/`), below]) }
}

/** The bytes of a path that is not UTF-8, where `\xE9` stands for a byte. */
function escapedBytes(path: string): Buffer {
  const parts = path.split(/(\\x[0-9A-F]{2})/)
  return Buffer.concat(
    parts.map((part, i) => (i % 2 === 1 ? Buffer.from(part.slice(2), 'hex') : Buffer.from(part))),
  )
}
