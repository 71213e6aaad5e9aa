/**
 * Embeddings as they are written into a reply. A reply holds hundreds of numbers, which
 * JSON.stringify is slow to write.
 */
import { endianness } from 'node:os'

/** Digits that tell every float32 from its neighbours. */
const DIGITS = 9
/**
 * Below it, numbers are written with an exponent; from 1 on there is none in an embedding of length
 * 1.
 */
const LEAST = 1e-6
/**
 * Characters of a number with its comma: JavaScript writes one below 1e21 with all its places, and
 * a sign.
 */
const LONGEST = 24
const POWERS = Array.from({ length: DIGITS + 7 }, (_, exponent) => 10 ** exponent)
const [COMMA, MINUS, POINT, ZERO, OPENING, CLOSING] = [...',-.0[]'].map((one) =>
  one.charCodeAt(0),
) as [number, number, number, number, number, number]

/** The JSON array of the numbers, each with the nine digits that give the same float32 again. */
export function jsonOfFloats(values: Float32Array): string {
  const bytes = Buffer.allocUnsafe(values.length * LONGEST + 2)
  let at = 0
  bytes[at++] = OPENING
  for (let i = 0; i < values.length; i += 1) {
    if (i > 0) bytes[at++] = COMMA
    at = write(values[i] as number, bytes, at)
  }
  bytes[at++] = CLOSING
  return bytes.toString('latin1', 0, at)
}

/** Base64 of the numbers as little-endian float32. */
export function base64OfFloats(values: Float32Array): string {
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength)
  return (endianness() === 'LE' ? bytes : Buffer.from(bytes).swap32()).toString('base64')
}

/** @returns where the next byte goes */
function write(value: number, bytes: Buffer, start: number): number {
  let at = start
  const size = Math.abs(value)
  // Among them 0, and what an embedding does not hold.
  if (!(size >= LEAST && size < 1))
    return at + bytes.write(JSON.stringify(Number(value.toPrecision(DIGITS))), at, 'latin1')
  if (value < 0) bytes[at++] = MINUS
  bytes[at++] = ZERO
  bytes[at++] = POINT
  let zeros = 0
  while (size * (POWERS[zeros + 1] as number) < 1) {
    bytes[at++] = ZERO
    zeros += 1
  }
  // The float32 next below a power of ten is further from it than half of the last digit: there are
  // never ten digits.
  let digits = Math.round(size * (POWERS[DIGITS + zeros] as number)) | 0
  for (let place = at + DIGITS - 1; place >= at; place -= 1) {
    const rest = (digits / 10) | 0
    bytes[place] = ZERO + digits - 10 * rest
    digits = rest
  }
  return at + DIGITS
}
