/**
 * The file that hnswlib writes, as far as we read it ourselves: whether it is whole, for hnswlib
 * passes over errors of writing, so that a full disk leaves a graph that is cut off and no word
 * about it; and embeddings out of it, for which hnswlib takes ten times as long.
 *
 *    0  uint64  offset, capacity
 *   16  uint64  elements
 *   24  uint64  bytes of an element
 *   40  uint64    at which of them its embedding begins
 *    …  up to 96 bytes of other numbers, then the elements
 *    …  for each element uint32 bytes of its links above the lowest level, and those bytes
 *
 * As written on a machine that is little-endian with 64 bits, as all that we run on.
 */
import { createHash } from 'node:crypto'
import { fstatSync, readSync } from 'node:fs'

const HEADER_BYTES = 96
/** Read at a time: a graph may be larger than what one buffer may hold. */
const PIECE_BYTES = 1 << 20

export function isWholeGraph(descriptor: number): boolean {
  const { size } = fstatSync(descriptor)
  if (size < HEADER_BYTES) return false
  const { elements, elementBytes } = headerOf(descriptor)
  const from = HEADER_BYTES + elements * elementBytes
  if (from > size) return false
  const links = bytesAt(descriptor, from, size - from)
  let at = 0
  for (let element = 0; element < elements; element += 1) {
    if (at + 4 > links.length) return false
    at += 4 + links.readUInt32LE(at)
  }
  return at === links.length
}

/** SHA-256 in hexadecimal. */
export function sha256Of(descriptor: number): string {
  const hash = createHash('sha256')
  const piece = Buffer.alloc(PIECE_BYTES)
  for (let at = 0; ;) {
    const length = readSync(descriptor, piece, 0, PIECE_BYTES, at)
    if (length === 0) return hash.digest('hex')
    hash.update(piece.subarray(0, length))
    at += length
  }
}

/** Every so many-th embedding, in the order in which they were added. */
export function* embeddingsIn(
  descriptor: number,
  dim: number,
  every: number,
): Iterable<Float32Array> {
  const { elements, elementBytes, embeddingAt } = headerOf(descriptor)
  for (let element = 0; element < elements; element += every) {
    const bytes = bytesAt(
      descriptor,
      HEADER_BYTES + element * elementBytes + embeddingAt,
      dim * Float32Array.BYTES_PER_ELEMENT,
    )
    yield new Float32Array(bytes.buffer, bytes.byteOffset, dim)
  }
}

function headerOf(descriptor: number): {
  elements: number
  elementBytes: number
  embeddingAt: number
} {
  const header = bytesAt(descriptor, 0, HEADER_BYTES)
  const number = (at: number): number => Number(header.readBigUInt64LE(at))
  return { elements: number(16), elementBytes: number(24), embeddingAt: number(40) }
}

/** @throws Error where the file ends before */
function bytesAt(descriptor: number, from: number, length: number): Buffer {
  // With a buffer of its own, whose start suits floats.
  const bytes = Buffer.allocUnsafeSlow(length)
  for (let read = 0; read < length;) {
    const more = readSync(
      descriptor,
      bytes,
      read,
      Math.min(length - read, PIECE_BYTES),
      from + read,
    )
    if (more === 0) throw new Error('the graph file ends too early')
    read += more
  }
  return bytes
}
