/** Fill, crop and pad with each kernel, to the bit as the libraries of the models do it. */
import { createHash } from 'node:crypto'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import type { PixelRules } from '../../../src/model/bundle/bundle.js'
import { preprocess } from '../../../src/model/image/preprocess.js'
import { resample, type Raster } from '../../../src/model/image/resample.js'
import { missingModules, runPython } from '../../support/python.js'
import { randomNumbers } from '../../support/random-embeddings.js'

type Case = Required<Omit<PixelRules, 'source'>> & { width: number; height: number }

const missing = missingModules('PIL', 'torchvision', 'transformers', 'open_clip')
const BACKGROUND = [124, 7, 255]

/** Sizes around the square, thin ones, and odd rests of a crop. */
function cases(): Case[] {
  const next = randomNumbers(19)
  const upTo = (most: number): number => 1 + Math.floor(next() * most)
  const sides = [
    [1, 1],
    [1, 200],
    [200, 1],
    [64, 64],
    [65, 64],
    [64, 65],
    [64, 67],
    [131, 64],
    [640, 427],
    [427, 641],
    [513, 20],
    [33, 900],
  ] as [number, number][]
  for (let i = 0; i < 60; i += 1) sides.push([upTo(300), upTo(300)])
  const all = sides.flatMap(([width, height]) =>
    (['fill', 'crop', 'pad'] as const).flatMap((fit) =>
      (['bicubic', 'bilinear', 'lanczos'] as const).flatMap((resample) =>
        (['down', 'even'] as const).map((centre) => {
          const size = next() < 0.5 ? 64 : upTo(90)
          return { width, height, size, fit, resample, centre, background: BACKGROUND }
        }),
      ),
    ),
  )
  // open_clip fails where the short side of a padded image would have no pixel.
  return all.filter(
    ({ fit, width, height, size }) =>
      fit !== 'pad' || (Math.min(width, height) / Math.max(width, height)) * size > 1,
  )
}

function pattern({ width, height }: Case): Raster {
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)]
    return (((31 * x + 17 * y + 7 * (i % 3)) ** 2) >> 3) & 255
  })
  return { data, width, height }
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

describe.skipIf(missing !== null)(`pixels of every fit and kernel ${missing ?? ''}`, () => {
  it('are what Pillow, torchvision, transformers and open_clip make of them', () => {
    const all = cases()
    const expected = runPython(
      new URL('../../fixtures/pillow-pixels.py', import.meta.url),
      all,
    ) as string[]
    expect(expected).toHaveLength(all.length)
    const wrong = all.filter((one, i) => digest(resample(pattern(one), one)) !== expected[i])
    expect(wrong).toEqual([])
  }, 60_000)
})

describe('an image larger than the stored one', () => {
  const size = 64
  // Below the reducing gap, eight sides of the square on the short side.
  const large: Case = {
    width: 700,
    height: 255,
    size,
    fit: 'crop',
    resample: 'bilinear',
    centre: 'down',
    background: [],
  }
  const png = (): Promise<Buffer> =>
    sharp(pattern(large).data, { raw: { width: 700, height: 255, channels: 3 } })
      .png()
      .toBuffer()
  const rules: PixelRules = { size, fit: 'crop', resample: 'bilinear' }

  it('gives its own pixels to an encoder with the source "sent"', async () => {
    const { pixels, image } = await preprocess(await png(), { ...rules, source: 'sent' }, 1e6)
    expect(Buffer.compare(pixels, resample(pattern(large), rules))).toBe(0)
    expect([image.width, image.height]).toEqual([512, 187])
    expect((await sharp(image.bytes).metadata()).width).toBe(512)
  })

  it('gives those of the stored image to an encoder without it', async () => {
    const { pixels } = await preprocess(await png(), rules, 1e6)
    expect(Buffer.compare(pixels, resample(pattern(large), rules))).not.toBe(0)
  })

  it('is shrunk to eight sides of the square, with nearly the same pixels', async () => {
    const { pixels } = await preprocess(await png(), { ...rules, size: 16, source: 'sent' }, 1e6)
    const exact = resample(pattern(large), { ...rules, size: 16 })
    const worst = pixels.reduce(
      (most, value, i) => Math.max(most, Math.abs(value - (exact[i] ?? 0))),
      0,
    )
    expect(worst).toBeGreaterThan(0)
    expect(worst).toBeLessThan(40)
  })
})

it('transparent pixels lie on the background of the rules', async () => {
  const png = await sharp({
    create: { width: 8, height: 8, channels: 4, background: { r: 9, g: 9, b: 9, alpha: 0 } },
  })
    .png()
    .toBuffer()
  const { pixels } = await preprocess(png, { size: 8, background: [1, 2, 3] }, 1e6)
  expect([...pixels.subarray(0, 6)]).toEqual([1, 2, 3, 1, 2, 3])
})
