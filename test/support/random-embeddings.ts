/** Reproducible embeddings around a few centres, like embeddings of real images. */
export function randomEmbeddings(count: number, dim: number, seed = 1): Float32Array[] {
  const random = randomNumbers(seed)
  const centres = Array.from({ length: 12 }, () =>
    Array.from({ length: dim }, () => random() - 0.5),
  )
  return Array.from({ length: count }, () => {
    const centre = centres[Math.floor(random() * centres.length)] as number[]
    return Float32Array.from(centre, (value) => value + 0.6 * (random() - 0.5))
  })
}

/** Reproducible numbers in [0, 1) (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Reference implementation of the cosine; NaN for vectors of different lengths. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let dot = 0
  let aa = 0
  let bb = 0
  for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
    const x = a[i] ?? Number.NaN
    const y = b[i] ?? Number.NaN
    dot += x * y
    aa += x * x
    bb += y * y
  }
  return dot / Math.sqrt(aa * bb)
}
