/** Embeddings as a reply has them, in JSON. */
import { endianness } from 'node:os'

/** Nine digits tell every float32 from its neighbours. */
export function jsonOfFloats(values: Float32Array): string {
  return `[${Array.from(values, (value) => value.toPrecision(9)).join()}]`
}

/** Base64 of the values as little-endian float32. */
export function base64OfFloats(values: Float32Array): string {
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength)
  return (endianness() === 'LE' ? bytes : Buffer.from(bytes).swap32()).toString('base64')
}
