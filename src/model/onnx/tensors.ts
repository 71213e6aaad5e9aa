/** Converts between arrays and tensors. */
import type { Tensors } from './graph-inputs.js'

/** The data of a float32 output. */
export function floatsOf(outputs: Tensors, name: string): Float32Array {
  const tensor = outputs[name]
  if (tensor?.type !== 'float32') throw new Error(`The output ${name} is not float32.`)
  return tensor.data
}

/** As `floatsOf`, for int8. */
export function bytesOf(outputs: Tensors, name: string): Int8Array {
  const tensor = outputs[name]
  if (tensor?.type !== 'int8') throw new Error(`The output ${name} is not int8.`)
  return tensor.data
}

/** The longest row, and the mask of tokens (1) and padding (0): int64 [b, t]. */
export function maskOf(lengths: readonly number[]): { mask: BigInt64Array; longest: number } {
  const longest = Math.max(...lengths)
  const mask = new BigInt64Array(lengths.length * longest)
  lengths.forEach((length, row) => mask.fill(1n, row * longest, row * longest + length))
  return { mask, longest }
}
