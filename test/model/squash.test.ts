/** The pixels that a graph gets, against the resampling that training uses, written out slowly. */
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { preprocess } from '../../src/model/preprocess.js'
import { randomNumbers } from '../vector-index/random-embeddings.js'

/** Of 255: rounding in between, and another treatment of the outermost pixels. */
const MEAN_TOLERANCE = 0.5
const LARGEST_TOLERANCE = 8

type Plane = number[][]

/** Bicubic kernel with a = -0.5. */
function cubic(x: number): number {
  const d = Math.abs(x)
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0
}

/** One row at another length: centres of cells map to centres, the kernel widens where the row shrinks. */
function resampled(row: readonly number[], to: number): number[] {
  const step = row.length / to
  const width = Math.max(step, 1)
  return Array.from({ length: to }, (_, i) => {
    const weights = row.map((_, j) => cubic((j + 0.5 - (i + 0.5) * step) / width))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    return row.reduce((sum, value, j) => sum + value * (weights[j] ?? 0), 0) / total
  })
}

function transposed(plane: Plane): Plane {
  return (plane[0] ?? []).map((_, x) => plane.map((row) => row[x] ?? 0))
}

function reference(plane: Plane, size: number): Plane {
  const wide = plane.map((row) => resampled(row, size))
  return transposed(transposed(wide).map((column) => resampled(column, size)))
}

/** Smooth stripes in both directions and a little noise, different in each channel: height × width × 3. */
function pattern(width: number, height: number): Uint8Array {
  const next = randomNumbers(3)
  const value = (x: number, y: number, c: number): number =>
    128 + 60 * Math.sin(x / (4 + c)) + 40 * Math.cos(y / (5 - c)) + 16 * (next() - 0.5)
  return Uint8Array.from({ length: width * height * 3 }, (_, i) =>
    value(Math.floor(i / 3) % width, Math.floor(i / 3 / width), i % 3),
  )
}

describe('the squashed pixels', () => {
  it.each([
    [48, 48, 48],
    [90, 70, 48],
    [30, 30, 48],
    [30, 80, 48],
    [100, 20, 48],
    [47, 49, 48],
  ])('of %i × %i pixels agree at %i', async (width, height, size) => {
    const bytes = pattern(width, height)
    const png = await sharp(bytes, { raw: { width, height, channels: 3 } }).png().toBuffer()
    const { pixels } = await preprocess(png, size, 1e6)
    expect(pixels).toHaveLength(size * size * 3)
    const differences: number[] = []
    for (const channel of [0, 1, 2]) {
      const plane = Array.from({ length: height }, (_, y) =>
        Array.from({ length: width }, (_, x) => bytes[(y * width + x) * 3 + channel] ?? 0),
      )
      reference(plane, size).forEach((row, y) =>
        row.forEach((value, x) => {
          const clamped = Math.max(0, Math.min(255, value))
          differences.push(Math.abs(clamped - (pixels[(y * size + x) * 3 + channel] ?? Infinity)))
        }),
      )
    }
    expect(differences.reduce((sum, value) => sum + value, 0) / differences.length).toBeLessThan(MEAN_TOLERANCE)
    expect(Math.max(...differences)).toBeLessThan(LARGEST_TOLERANCE)
  })
})
