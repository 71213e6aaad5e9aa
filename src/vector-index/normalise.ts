/** Arithmetic of embeddings. */

/** How far the square of a unit vector's length may lie from 1. */
const UNIT_TOLERANCE = 0.01

/**
 * A copy of `embedding` of length 1, so that a dot product is a cosine.
 * @throws RangeError for another number of values than `dim`, a value that is not finite, or
 *   length zero
 */
export function normalise(embedding: Float32Array, dim: number): Float32Array {
  if (embedding.length !== dim) {
    throw new RangeError(`An embedding has ${embedding.length} values; this index takes ${dim}.`)
  }
  const length = Math.sqrt(squaredLength(embedding))
  if (!Number.isFinite(length))
    throw new RangeError('An embedding has a value that is not a finite number.')
  if (length === 0) throw new RangeError('An embedding has length zero and so no direction.')
  return embedding.map((value) => value / length)
}

/**
 * Whether an embedding has length 1. Collections refuse others: once stored, such an embedding
 * would make every later write to the index fail.
 */
export function isUnit(embedding: Float32Array): boolean {
  return Math.abs(squaredLength(embedding) - 1) < UNIT_TOLERANCE
}

/** In [-1, 1]; NaN if one vector is empty, zero or longer than the other. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.NaN
  let dot = 0
  let aa = 0
  let bb = 0
  for (let at = 0; at < a.length; at += 1) {
    const x = a[at] as number
    const y = b[at] as number
    dot += x * y
    aa += x * x
    bb += y * y
  }
  return Math.max(-1, Math.min(1, dot / Math.sqrt(aa * bb)))
}

function squaredLength(embedding: Float32Array): number {
  let square = 0
  for (const value of embedding) square += value * value
  return square
}
