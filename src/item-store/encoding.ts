/**
 * Encoding of an item in the table of one bundle. It is outdated once the position of the item
 * differs.
 *
 *   0  float64  position of the item
 *   8  uint32   values of the embedding
 *  12  uint32   bytes of the image tokens
 *  16  float32  embedding, little-endian like all supported platforms
 *   …  int8     image tokens
 *   …  16 bytes digest of id, sizes and values (digest.ts); absent in earlier versions
 */
import { DIGEST_BYTES, digestOf, type Verdict } from './digest.js'
import type { Encoding } from './item-store.js'

const HEADER_BYTES = 16
/** The digest begins with the sizes: the position is written last. */
const SIZES = 8

/** @returns the bytes with position 0; `stampPosition` writes the position */
export function encodeEncoding(id: string, { embedding, imageTokens }: Encoding): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(embedding.length, 8)
  header.writeUInt32LE(imageTokens.length, 12)
  const record = Buffer.concat([header, bytesOf(embedding), bytesOf(imageTokens)])
  return Buffer.concat([record, digestOf(id, record.subarray(SIZES))])
}

/** Compares an encoding with its digest. @throws RangeError for one that is cut off */
export function verifyEncoding(id: string, record: Buffer): Verdict {
  const { tokensEnd } = endsOf(record)
  if (tokensEnd > record.length) return 'damaged'
  if (tokensEnd === record.length) return 'unknown'
  const digest = record.subarray(tokensEnd, record.length)
  const isSound =
    digest.length === DIGEST_BYTES && digestOf(id, record.subarray(SIZES, tokensEnd)).equals(digest)
  return isSound ? 'sound' : 'damaged'
}

/** @returns copies of the values, because the store reuses its read buffer */
export function decodeEncoding(record: Buffer): Encoding {
  const { embeddingEnd, tokensEnd } = endsOf(record)
  return {
    embedding: decodeEmbedding(record),
    imageTokens: new Int8Array(copyOf(record, embeddingEnd, tokensEnd)),
  }
}

/** @returns a copy of the embedding */
export function decodeEmbedding(record: Buffer): Float32Array {
  return new Float32Array(copyOf(record, HEADER_BYTES, endsOf(record).embeddingEnd))
}

/** Offsets in bytes. In the first format the content of the item followed the tokens. */
export function endsOf(record: Buffer): { embeddingEnd: number; tokensEnd: number } {
  const embeddingEnd = HEADER_BYTES + record.readUInt32LE(8) * Float32Array.BYTES_PER_ELEMENT
  return { embeddingEnd, tokensEnd: embeddingEnd + record.readUInt32LE(12) }
}

function bytesOf(values: Float32Array | Int8Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

/** @returns a copy aligned for any typed array */
function copyOf(record: Buffer, start: number, end: number): ArrayBuffer {
  const copy = new Uint8Array(end - start)
  copy.set(record.subarray(start, end))
  return copy.buffer
}
