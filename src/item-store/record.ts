/**
 * How an item lies in the table of items: its position, then the rest as JSON. What a bundle made
 * of its image lies elsewhere (encoding.ts).
 *
 *   0  float64  position, written last (`stampPosition`): it is known only inside the transaction
 *   8  UTF-8    {payload, picture, addedAt}
 */
import type { Item, NewItem } from './item-store.js'

const HEADER_BYTES = 8

/** What an item is, whichever bundle encodes it. */
export type Kept = Pick<Item, 'payload' | 'image' | 'addedAt'>

/** `picture` is the stored name of the image: data folders of earlier versions have it. */
type Stored = Pick<Kept, 'payload' | 'addedAt'> & { picture: Kept['image'] }

/** The bytes of an item, with position 0. `addedAt` is used where the item has none of its own. */
export function encodeRecord(item: NewItem, addedAt: string): Buffer {
  const { bytes, mime, width, height } = item.image
  const image = { mime, width, height, size: bytes.byteLength }
  return recordOf({ payload: item.payload, image, addedAt: item.addedAt ?? addedAt })
}

/** The bytes of `kept`, with position 0. */
export function recordOf(kept: Kept): Buffer {
  const { payload, image, addedAt } = kept
  const text = JSON.stringify({ payload, picture: image, addedAt })
  return Buffer.concat([Buffer.alloc(HEADER_BYTES), Buffer.from(text)])
}

/**
 * Writes the item's place in the sequence of changes into its record, or into an encoding of it.
 */
export function stampPosition(record: Buffer, position: number): void {
  record.writeDoubleLE(position, 0)
}

/** The place in the sequence of changes of a record or of an encoding, without reading the rest. */
export function positionOf(record: Buffer): number {
  return record.readDoubleLE(0)
}

export function decodeRecord(record: Buffer): Kept {
  const { payload, picture, addedAt } = JSON.parse(record.toString('utf8', HEADER_BYTES)) as Stored
  return { payload, image: picture, addedAt }
}
