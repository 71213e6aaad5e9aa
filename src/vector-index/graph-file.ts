/**
 * Reads files of hnswlib. It checks that a file is complete: hnswlib ignores write errors, so a
 * full disk silently truncates the graph. It also reads embeddings ten times as fast as hnswlib.
 *
 *    0  uint64  offset, capacity
 *   16  uint64  elements
 *   24  uint64  bytes of an element
 *   40  uint64    offset of the embedding in the element
 *    …  up to 96 bytes of other numbers, then the elements
 *    …  for each element uint32 n, then n bytes: its links above the lowest level
 *
 * Numbers are little-endian with 64 bits, as on every machine that the service supports.
 */
import { fstatSync, readSync } from 'node:fs'

const HEADER_BYTES = 96
/** Size of one read: a graph may be larger than the largest buffer. */
const PIECE_BYTES = 1 << 20

/** Whether the file holds all that its header announces, and nothing else. */
export function isCompleteGraph(descriptor: number): boolean {
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

/** Reads the embedding of an element. Elements are in the order of their labels. */
export function embeddingReader(
  descriptor: number,
  dim: number,
): (element: number) => Float32Array {
  const { elementBytes, embeddingAt } = headerOf(descriptor)
  return (element) => floatsAt(descriptor, HEADER_BYTES + element * elementBytes + embeddingAt, dim)
}

/** @throws Error if the file ends before */
export function floatsAt(descriptor: number, from: number, count: number): Float32Array {
  const bytes = bytesAt(descriptor, from, count * Float32Array.BYTES_PER_ELEMENT)
  return new Float32Array(bytes.buffer, bytes.byteOffset, count)
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

/** @throws Error if the file ends before */
function bytesAt(descriptor: number, from: number, length: number): Buffer {
  // A buffer outside the pool starts at a multiple of 4, as floats need.
  const bytes = Buffer.allocUnsafeSlow(length)
  for (let read = 0; read < length;) {
    const more = readSync(
      descriptor,
      bytes,
      read,
      Math.min(length - read, PIECE_BYTES),
      from + read,
    )
    if (more === 0) throw new Error('the file ends too early')
    read += more
  }
  return bytes
}
