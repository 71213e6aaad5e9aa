/**
 * Whether an embedding is one that a collection takes: once stored, another would stop every later
 * write.
 */
export function isUnit(embedding: Float32Array): boolean {
  const square = embedding.reduce((sum, value) => sum + value * value, 0)
  return Math.abs(square - 1) < 0.01
}
