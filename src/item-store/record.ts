/**
 * Record of an item in the table `items`: its position, then its content as JSON. Encodings are in
 * tables of their own (encoding.ts).
 *
 *   0  float64  position; written last (`stampPosition`), because only the transaction knows it
 *   8  UTF-8    {payload, picture, addedAt}
 */
import type { Item, NewItem } from './item-store.js'

const HEADER_BYTES = 8

/** The parts of an item that do not depend on a bundle. */
export type Content = Pick<Item, 'payload' | 'image' | 'addedAt'>

/** The stored form: data folders of earlier versions have the name `picture`. */
type StoredContent = Omit<Content, 'image'> & { picture: Content['image'] }

/** @returns the record with position 0; `addedAt` applies where the item has none */
export function encodeRecord(item: NewItem, addedAt: string): Buffer {
  const { bytes, mime, width, height } = item.image
  const image = { mime, width, height, size: bytes.byteLength }
  return recordOf({ payload: item.payload, image, addedAt: item.addedAt ?? addedAt })
}

/** @returns the record with position 0 */
export function recordOf({ payload, image, addedAt }: Content): Buffer {
  const stored: StoredContent = { payload, picture: image, addedAt }
  return Buffer.concat([Buffer.alloc(HEADER_BYTES), Buffer.from(JSON.stringify(stored))])
}

export function decodeRecord(record: Buffer): Content {
  return parseContent(record.toString('utf8', HEADER_BYTES))
}

/** @param text - the JSON of a record */
export function parseContent(text: string): Content {
  const { payload, picture, addedAt } = JSON.parse(text) as StoredContent
  return { payload, image: picture, addedAt }
}

/** Writes the position into a record or an encoding. */
export function stampPosition(record: Buffer, position: number): void {
  record.writeDoubleLE(position, 0)
}

/** Reads the position of a record or an encoding. */
export function positionOf(record: Buffer): number {
  return record.readDoubleLE(0)
}
