/**
 * The pixels that a graph gets, against the resampling that training uses: to the bit, recorded and
 * written out slowly.
 */
import { createHash } from 'node:crypto'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { preprocess } from '../../../src/model/image/preprocess.js'
import { ASSEMBLED, resample, type Raster } from '../../../src/model/image/resample.js'
import { assembled } from '../../support/assembled.js'
import { randomNumbers } from '../../support/random-embeddings.js'

/**
 * Width, height, size, and the digest of what Pillow 13.0.0 makes of `pattern`:
 *
 *     y, x, c = numpy.mgrid[:height, :width, :3]
 *     image = Image.fromarray(((31 * x + 17 * y + 7 * c) ** 2 >> 3 & 255).astype('uint8'))
 *     pixels = image.resize((size, size), Image.Resampling.BICUBIC).tobytes()
 *     hashlib.sha256(pixels).hexdigest()[:16]
 */
const RECORDED: [number, number, number, string][] = [
  [1, 1, 288, '75661457dedebbfa'],
  [1, 300, 288, '9695f2a551774e69'],
  [300, 1, 288, '85d780d05cee4dfd'],
  [224, 224, 288, '703e8b9e7dc30158'],
  [500, 375, 288, 'e1f907877fbfea71'],
  [375, 500, 288, 'b4947b875279fd62'],
  // The height shrinks by twice as much as the width, and by one pixel more: down first.
  [338, 388, 288, '905557de52710d4c'],
  [338, 389, 288, '8bf4440233904b9d'],
  [288, 288, 288, 'e6e305c414fbefb8'],
  [288, 400, 288, '837cf4026089b71f'],
  [512, 17, 288, '031e20149829c32d'],
  [17, 512, 288, '7544db7e820ef2fd'],
  [512, 512, 288, 'c16b17de7e2be171'],
  [511, 512, 1, 'cd2eb0837c9b4c96'],
  [5, 4, 3, '4fdfbe2f58297527'],
]

function raster(
  width: number,
  height: number,
  value: (x: number, y: number, channel: number) => number,
): Raster {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) =>
    value(Math.floor(i / 3) % width, Math.floor(i / 3 / width), i % 3),
  )
  return { data, width, height }
}

function pattern(width: number, height: number): Raster {
  return raster(width, height, (x, y, c) => (((31 * x + 17 * y + 7 * c) ** 2) >> 3) & 255)
}

/** Black and white at random: what a bicubic kernel overshoots most. */
function speckles(width: number, height: number): Raster {
  const next = randomNumbers(width + height)
  return raster(width, height, () => (next() < 0.5 ? 0 : 255))
}

/** Bicubic kernel with a = -0.5. */
function cubic(x: number): number {
  const d = Math.abs(x)
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1
  return d < 2 ? (((d - 5) * d + 8) * d - 4) * -0.5 : 0
}

/** One line at another length, in whole numbers of 2^-22. */
function resampled(line: readonly number[], to: number): number[] {
  const step = line.length / to
  const width = Math.max(step, 1)
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * step
    const first = Math.max(0, Math.trunc(centre - 2 * width + 0.5))
    const values = line.slice(first, Math.trunc(centre + 2 * width + 0.5))
    const weights = values.map((_, j) => cubic((j + first - centre + 0.5) * (1 / width)))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    const sum = values.reduce((sum, value, j) => {
      const share = ((weights[j] ?? 0) / total) * 2 ** 22
      return sum + value * Math.trunc(share < 0 ? share - 0.5 : share + 0.5)
    }, 2 ** 21)
    return Math.max(0, Math.min(255, Math.floor(sum / 2 ** 22)))
  })
}

type Plane = number[][]

function transposed(plane: Plane): Plane {
  return (plane[0] ?? []).map((_, x) => plane.map((row) => row[x] ?? 0))
}

function reference({ data, width, height }: Raster, size: number): Uint8Array {
  const across = (plane: Plane): Plane => plane.map((row) => resampled(row, size))
  const down = (plane: Plane): Plane => transposed(across(transposed(plane)))
  const isDownFirst = height > size && height - size > 2 * (width - size)
  const planes = [0, 1, 2].map((channel) => {
    const plane = Array.from({ length: height }, (_, y) =>
      Array.from({ length: width }, (_, x) => data[(y * width + x) * 3 + channel] ?? 0),
    )
    return isDownFirst ? across(down(plane)) : down(across(plane))
  })
  return raster(size, size, (x, y, c) => planes[c]?.[y]?.[x] ?? Number.NaN).data
}

/** Where they differ first, or -1. */
function difference(found: Uint8Array, expected: Uint8Array): number {
  expect(found).toHaveLength(expected.length)
  return found.findIndex((value, i) => value !== expected[i])
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16)
}

describe('the assembled passes', () => {
  it('are what their source says', async () => {
    expect(await assembled(new URL('../../../src/model/image/resample.wat', import.meta.url))).toBe(
      ASSEMBLED,
    )
  })
})

describe.each(RECORDED)('%i × %i pixels at %i', (width, height, size, recorded) => {
  it('are what Pillow made of them', () => {
    expect(digest(resample(pattern(width, height), { size }))).toBe(recorded)
  })

  it('are what its arithmetic, written out, makes of them', () => {
    expect(digest(reference(pattern(width, height), size))).toBe(recorded)
    const image = speckles(width, height)
    expect(difference(resample(image, { size }), reference(image, size))).toBe(-1)
  })

  it('are what an image file with them comes to', async () => {
    const { data } = pattern(width, height)
    const png = await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer()
    expect(digest((await preprocess(png, { size }, 1e6)).pixels)).toBe(recorded)
  })
})
