/**
 * How an item lies in the store: 16 bytes of numbers, the embedding, the image tokens, then the rest as JSON.
 *
 *   0  float64  position, written last (`stampPosition`): it is known only inside the transaction
 *   8  uint32   values of the embedding
 *  12  uint32   bytes of the image tokens
 *  16  float32  embedding, little-endian as all platforms that we run on
 *   …  int8     image tokens
 *   …  UTF-8    {payload, picture, addedAt}
 */
import type { Item, NewItem } from '../item-store.js'

const HEADER_BYTES = 16

type Rest = Pick<Item, 'payload' | 'picture' | 'addedAt'>

/** The bytes of an item, with position 0. `addedAt` is used where the item has none of its own. */
export function encodeRecord(item: NewItem, addedAt: string): Buffer {
  const { bytes, mime, width, height } = item.picture
  const rest: Rest = {
    payload: item.payload,
    picture: { mime, width, height, size: bytes.byteLength },
    addedAt: item.addedAt ?? addedAt,
  }
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(item.embedding.length, 8)
  header.writeUInt32LE(item.imageTokens.length, 12)
  return Buffer.concat([header, bytesOf(item.embedding), bytesOf(item.imageTokens), Buffer.from(JSON.stringify(rest))])
}

/** Writes the item's place in the sequence of changes into its record. */
export function stampPosition(record: Buffer, position: number): void {
  record.writeDoubleLE(position, 0)
}

/** The item's place in the sequence of changes, without reading the rest. */
export function positionOf(record: Buffer): number {
  return record.readDoubleLE(0)
}

/** The item in `record`, sharing no memory with it: the store reuses its read buffer. */
export function decodeRecord(id: string, record: Buffer): Item {
  const embeddingEnd = HEADER_BYTES + record.readUInt32LE(8) * Float32Array.BYTES_PER_ELEMENT
  const tokensEnd = embeddingEnd + record.readUInt32LE(12)
  const rest = JSON.parse(record.toString('utf8', tokensEnd, record.length)) as Rest
  return {
    id,
    payload: rest.payload,
    embedding: new Float32Array(copyOf(record, HEADER_BYTES, embeddingEnd)),
    imageTokens: new Int8Array(copyOf(record, embeddingEnd, tokensEnd)),
    picture: rest.picture,
    addedAt: rest.addedAt,
    position: positionOf(record),
  }
}

function bytesOf(values: Float32Array | Int8Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** A copy in a buffer of its own, so that it is aligned for any typed array. */
function copyOf(record: Buffer, start: number, end: number): ArrayBuffer {
  const copy = new Uint8Array(end - start)
  copy.set(record.subarray(start, end))
  return copy.buffer
}
