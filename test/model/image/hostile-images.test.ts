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

describe('an image that costs far more than its bytes', () => {
  it('a progressive JPEG of more than 100 scans is refused before it is decoded', async () => {
    const jpeg = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'red' } })
      .jpeg({ progressive: true })
      .toBuffer()
    const last = jpeg.lastIndexOf(Buffer.from([0xff, 0xda]))
    const withScans = (count: number): Buffer =>
      Buffer.concat([
        jpeg.subarray(0, last),
        ...Array<Buffer>(count).fill(jpeg.subarray(last, -2)),
        jpeg.subarray(-2),
      ])
    const { image } = await preprocess(withScans(1), { size: 8 }, MAX_PIXELS)
    expect(image.width).toBe(64)
    await expect(preprocess(withScans(101), { size: 8 }, MAX_PIXELS)).rejects.toMatchObject({
      code: 'image_too_costly',
      message: expect.stringContaining('more than 100 scans') as string,
    })
  })

  it('scans of a thumbnail in the metadata do not count', async () => {
    const jpeg = await pages(1).jpeg().toBuffer()
    const scans = Buffer.alloc(2 + 2 + 4000)
    scans.writeUInt16BE(0xffe1, 0)
    scans.writeUInt16BE(scans.length - 2, 2)
    for (let at = 4; at < scans.length; at += 4) scans.writeUInt32BE(0xffda0002, at)
    await expectFirstPage(Buffer.concat([jpeg.subarray(0, 2), scans, jpeg.subarray(2)]))
  })

  it('an AVIF has fewer pixels than another image', async () => {
    const avif = await sharp({
      create: { width: 6000, height: 5000, channels: 3, background: 'red' },
    })
      .avif({ effort: 0 })
      .toBuffer()
    await expect(preprocess(avif, { size: 8 }, 50_000_000)).rejects.toMatchObject({
      code: 'image_too_large',
      message: expect.stringContaining('6000 × 5000 pixels; expected at most 25000000') as string,
    })
  })
})
