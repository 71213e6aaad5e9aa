/**
 * Image files made to hurt: what is read of them is the first page, and what cannot be read is
 * refused.
 */
import sharp, { type Sharp } from 'sharp'
import { describe, expect, it, vi } from 'vitest'
import { preprocess } from '../../../src/model/image/preprocess.js'
import { plainPng } from '../../support/images.js'

vi.setConfig({ testTimeout: 60_000 })

const MAX_PIXELS = 1_000_000

/** A first page of one colour and many of another, stacked as sharp takes them. */
function pages(count: number): Sharp {
  const height = 20
  const stacked = Buffer.alloc(30 * height * count * 3)
  for (let at = 0; at < stacked.length; at += 3) stacked[at + (at < 30 * height * 3 ? 0 : 2)] = 255
  return sharp(stacked, {
    raw: { width: 30, height: height * count, channels: 3, pageHeight: height },
  })
}

async function expectFirstPage(bytes: Uint8Array): Promise<void> {
  const { pixels, image } = await preprocess(bytes, { size: 8 }, MAX_PIXELS)
  expect(image).toMatchObject({ width: 30, height: 20 })
  const [red = 0, , blue = 0] = pixels.subarray(3 * (8 * 4 + 4))
  expect(red).toBeGreaterThan(200)
  expect(blue).toBeLessThan(60)
}

describe('of many pages only the first is read', () => {
  it('an animated WebP', async () => {
    const bytes = await pages(40).webp({ lossless: true }).toBuffer()
    // Frames that are alike become one.
    expect((await sharp(bytes).metadata()).pages).toBeGreaterThan(1)
    await expectFirstPage(bytes)
  })

  it('a TIFF of a thousand pages', async () => {
    const bytes = await pages(1000).tiff({ compression: 'lzw' }).toBuffer()
    expect((await sharp(bytes).metadata()).pages).toBe(1000)
    await expectFirstPage(bytes)
  })
})

describe('a polyglot', () => {
  const script = Buffer.from(
    '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>PK\u0003\u0004',
  )

  it('that begins as an image is stored as pixels alone', async () => {
    const bytes = Buffer.concat([await pages(1).jpeg().toBuffer(), script])
    const { image } = await preprocess(bytes, { size: 8 }, MAX_PIXELS)
    expect(Buffer.from(image.bytes).includes('<script>')).toBe(false)
  })

  it('that begins as anything else is refused', async () => {
    const bytes = Buffer.concat([script, await pages(1).jpeg().toBuffer()])
    await expect(preprocess(bytes, { size: 8 }, MAX_PIXELS)).rejects.toMatchObject({
      code: 'image_type_unsupported',
    })
  })
})

it.each([
  [20_000, 1],
  [1001, 1000],
  [1, 16_385],
])('a PNG of %i × %i pixels is refused by its header', async (width, height) => {
  await expect(preprocess(plainPng(width, height), { size: 8 }, MAX_PIXELS)).rejects.toMatchObject({
    code: 'image_too_large',
  })
})
