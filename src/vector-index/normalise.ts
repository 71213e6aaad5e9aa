/**
 * A copy of `embedding` of length 1, so that a dot product is a cosine.
 * @throws RangeError for another number of values than `dim`, for one that is not finite, and for
 *   length zero
 */
export function normalise(embedding: Float32Array, dim: number): Float32Array {
  if (embedding.length !== dim) {
    throw new RangeError(`An embedding has ${embedding.length} values; this index takes ${dim}.`)
  }
  let square = 0
  for (const value of embedding) square += value * value
  const length = Math.sqrt(square)
  if (!Number.isFinite(length))
    throw new RangeError('An embedding has a value that is not a finite number.')
  if (length === 0) throw new RangeError('An embedding has length zero and so no direction.')
  return embedding.map((value) => value / length)
}

/** @throws RangeError for anything but a positive whole number */
export function checkCandidates(candidates: number): void {
  if (!Number.isInteger(candidates) || candidates < 1) {
    throw new RangeError(
      `${candidates} candidates were asked for; a positive whole number is needed.`,
    )
  }
}
