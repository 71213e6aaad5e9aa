/**
 * The file that hnswlib writes, as far as it takes to see whether it is whole: hnswlib passes over errors of writing, so a
 * full disk leaves a graph that is cut off and no word about it.
 *
 *    0  uint64  offset, capacity
 *   16  uint64  elements
 *   24  uint64  bytes of an element
 *    …  up to 96 bytes of other numbers, then the elements
 *    …  for each element uint32 bytes of its links above the lowest level, and those bytes
 */

const HEADER_BYTES = 96

/** @param bytes - the file, as written on a machine that is little-endian with 64 bits, as all that we run on */
export function isWholeGraph(bytes: Buffer): boolean {
  if (bytes.length < HEADER_BYTES) return false
  const elements = Number(bytes.readBigUInt64LE(16))
  let at = HEADER_BYTES + elements * Number(bytes.readBigUInt64LE(24))
  for (let element = 0; element < elements; element += 1) {
    if (at + 4 > bytes.length) return false
    at += 4 + bytes.readUInt32LE(at)
  }
  return at === bytes.length
}
