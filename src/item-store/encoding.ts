/**
 * What one bundle made of an item's image, as it lies in the table of that bundle. It belongs to
 * the item as it was at its position: once the item has another one, the encoding is outdated.
 *
 *   0  float64  position of the item
 *   8  uint32   values of the embedding
 *  12  uint32   bytes of the image tokens
 *  16  float32  embedding, little-endian as all platforms that we run on
 *   …  int8     image tokens
 */
import type { Encoding } from './item-store.js'

const HEADER_BYTES = 16

/** The bytes of an encoding, with position 0: `stampPosition` writes it. */
export function encodeEncoding({ embedding, imageTokens }: Encoding): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(embedding.length, 8)
  header.writeUInt32LE(imageTokens.length, 12)
  return Buffer.concat([header, bytesOf(embedding), bytesOf(imageTokens)])
}

/** The encoding in `record`, sharing no memory with it: the store reuses its read buffer. */
export function decodeEncoding(record: Buffer): Encoding {
  const { embeddingEnd, tokensEnd } = endsOf(record)
  return {
    embedding: decodeEmbedding(record),
    imageTokens: new Int8Array(copyOf(record, embeddingEnd, tokensEnd)),
  }
}

/** The embedding alone, sharing no memory with `record` either. */
export function decodeEmbedding(record: Buffer): Float32Array {
  return new Float32Array(copyOf(record, HEADER_BYTES, endsOf(record).embeddingEnd))
}

/**
 * Where the embedding and the tokens end. In the first format the rest of the item followed them.
 */
export function endsOf(record: Buffer): { embeddingEnd: number; tokensEnd: number } {
  const embeddingEnd = HEADER_BYTES + record.readUInt32LE(8) * Float32Array.BYTES_PER_ELEMENT
  return { embeddingEnd, tokensEnd: embeddingEnd + record.readUInt32LE(12) }
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
