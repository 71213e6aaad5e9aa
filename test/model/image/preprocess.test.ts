import { crc32, deflateSync } from 'node:zlib'
import sharp, { type Sharp } from 'sharp'
import { describe, expect, it, vi } from 'vitest'
import { preprocess } from '../../../src/model/image/preprocess.js'

vi.setConfig({ testTimeout: 60_000 })

const SIZE = 32
const MAX_PIXELS = 1_000_000
/** Of a channel, after a lossy format or a colour conversion. */
const COLOUR_TOLERANCE = 12

const RED = { r: 200, g: 30, b: 40 }
const BLUE = { r: 20, g: 60, b: 190 }

/** An image whose left half is red and whose right half is blue. */
function twoHalves(width = 120, height = 80): Sharp {
  const left = {
    create: { width: Math.ceil(width / 2), height, channels: 3 as const, background: RED },
  }
  return sharp({ create: { width, height, channels: 3, background: BLUE } }).composite([
    { input: left, gravity: 'west' },
  ])
}

async function run(bytes: Uint8Array): ReturnType<typeof preprocess> {
  return preprocess(bytes, { size: SIZE }, MAX_PIXELS)
}

/** The colour of the pixel at a place given as shares of width and height. */
function colourAt(pixels: Uint8Array, x: number, y: number): number[] {
  const start = (Math.floor(y * SIZE) * SIZE + Math.floor(x * SIZE)) * 3
  return [...pixels.subarray(start, start + 3)]
}

function expectColour(found: number[], { r, g, b }: typeof RED): void {
  const expected = [r, g, b]
  const distance = Math.max(...found.map((value, i) => Math.abs(value - (expected[i] ?? 0))))
  expect(distance, `${found.join()} should be about ${expected.join()}`).toBeLessThanOrEqual(
    COLOUR_TOLERANCE,
  )
}

async function expectTwoHalves(bytes: Uint8Array): Promise<void> {
  const { pixels, image } = await run(bytes)
  expect(pixels).toHaveLength(SIZE * SIZE * 3)
  expectColour(colourAt(pixels, 0.25, 0.5), RED)
  expectColour(colourAt(pixels, 0.75, 0.5), BLUE)
  expect(await sharp(image.bytes).metadata()).toMatchObject({
    format: 'jpeg',
    width: image.width,
    height: image.height,
    space: 'srgb',
    channels: 3,
  })
}

describe('images that are read', () => {
  it.each<[string, () => Promise<Buffer>]>([
    ['JPEG', () => twoHalves().jpeg().toBuffer()],
    ['progressive JPEG', () => twoHalves().jpeg({ progressive: true }).toBuffer()],
    ['PNG', () => twoHalves().png().toBuffer()],
    ['PNG with a palette', () => twoHalves().png({ palette: true }).toBuffer()],
    ['PNG of 16 bits', () => twoHalves().toColourspace('rgb16').png().toBuffer()],
    ['WebP', () => twoHalves().webp().toBuffer()],
    ['AVIF', () => twoHalves().avif({ quality: 80 }).toBuffer()],
    ['TIFF', () => twoHalves().tiff().toBuffer()],
    ['GIF', () => twoHalves().gif().toBuffer()],
    ['JPEG with a wide-gamut profile', () => twoHalves().withIccProfile('p3').jpeg().toBuffer()],
  ])('%s', async (_, make) => {
    await expectTwoHalves(await make())
  })

  it('CMYK JPEG', async () => {
    // Colours that ink can print, so that they come back.
    const [ochre, slate] = [
      { r: 190, g: 150, b: 90 },
      { r: 90, g: 110, b: 130 },
    ]
    const left = { create: { width: 60, height: 80, channels: 3 as const, background: ochre } }
    const rgb = sharp({ create: { width: 120, height: 80, channels: 3, background: slate } })
    const bytes = await rgb
      .composite([{ input: left, gravity: 'west' }])
      .toColourspace('cmyk')
      .jpeg()
      .toBuffer()
    expect((await sharp(bytes).metadata()).space).toBe('cmyk')
    const { pixels, image } = await run(bytes)
    expectColour(colourAt(pixels, 0.25, 0.5), ochre)
    expectColour(colourAt(pixels, 0.75, 0.5), slate)
    expect((await sharp(image.bytes).metadata()).space).toBe('srgb')
  })

  it('JPEG that EXIF turns: what a viewer shows is what is embedded', async () => {
    // Stored lying on its side; orientation 6 turns it a quarter clockwise, which puts the left
    // side on top.
    const bytes = await twoHalves().jpeg().withMetadata({ orientation: 6 }).toBuffer()
    const { pixels, image } = await run(bytes)
    expect(image).toMatchObject({ width: 80, height: 120 })
    expectColour(colourAt(pixels, 0.5, 0.25), RED)
    expectColour(colourAt(pixels, 0.5, 0.75), BLUE)
    expect((await sharp(image.bytes).metadata()).orientation).toBeUndefined()
  })

  it.each([
    ['grayscale JPEG', 'b-w', 'jpeg'],
    ['grayscale PNG of 16 bits', 'grey16', 'png'],
  ] as const)('%s', async (_, space, format) => {
    const { pixels } = await run(
      await twoHalves().grayscale().toColourspace(space).toFormat(format).toBuffer(),
    )
    const [r, g, b] = colourAt(pixels, 0.75, 0.5)
    expect([g, b]).toEqual([r, r])
    expect(colourAt(pixels, 0.25, 0.5)).not.toEqual([r, g, b])
  })

  it('transparency, as white', async () => {
    const clear = sharp({
      create: { width: 60, height: 60, channels: 4, background: { ...RED, alpha: 0 } },
    })
    const { pixels } = await run(await clear.png().toBuffer())
    expect(colourAt(pixels, 0.5, 0.5)).toEqual([255, 255, 255])
  })

  it('grayscale with transparency', async () => {
    const raw = Buffer.from(Array.from({ length: 20 * 20 }, () => [40, 0]).flat())
    const bytes = await sharp(raw, { raw: { width: 20, height: 20, channels: 2 } })
      .png()
      .toBuffer()
    expect(colourAt((await run(bytes)).pixels, 0.5, 0.5)).toEqual([255, 255, 255])
  })

  it('an animated GIF, by its first frame', async () => {
    const frame = (background: typeof RED): Promise<Buffer> =>
      sharp({ create: { width: 40, height: 40, channels: 3, background } })
        .png()
        .toBuffer()
    const animated = await sharp([await frame(RED), await frame(BLUE)], {
      join: { animated: true },
    })
      .gif()
      .toBuffer()
    expect((await sharp(animated).metadata()).pages).toBe(2)
    const { pixels, image } = await run(animated)
    expectColour(colourAt(pixels, 0.5, 0.5), RED)
    expect(image).toMatchObject({ width: 40, height: 40 })
  })

  it.each([
    [1, 1],
    [3000, 1],
    [1, 900],
  ])('%i × %i pixels', async (width, height) => {
    const { image } = await run(await twoHalves(width, height).png().toBuffer())
    expect(Math.max(image.width, image.height)).toBe(Math.min(512, Math.max(width, height)))
    expect(Math.min(image.width, image.height)).toBe(1)
  })
})

describe('the stored image', () => {
  it('is at most 512 pixels on its long side, with its proportions', async () => {
    const { image } = await run(await twoHalves(1000, 500).jpeg().toBuffer())
    expect(image).toMatchObject({ mime: 'image/jpeg', width: 512, height: 256 })
  })

  it('is never larger than what was given', async () => {
    const { image } = await run(await twoHalves(100, 50).png().toBuffer())
    expect(image).toMatchObject({ width: 100, height: 50 })
  })

  it('carries no EXIF, place and camera included', async () => {
    const bytes = await twoHalves()
      .withExif({ IFD0: { Copyright: 'someone' }, IFD3: { GPSLatitude: '51/1 30/1 0/1' } })
      .jpeg()
      .toBuffer()
    expect((await sharp(bytes).metadata()).exif).toBeDefined()
    expect((await sharp((await run(bytes)).image.bytes).metadata()).exif).toBeUndefined()
  })
})

/** A PNG that says it is that large, with almost nothing in it. */
function pngOfSize(width: number, height: number): Buffer {
  const size = Buffer.from('00000000000000000802000000', 'hex')
  size.writeUInt32BE(width, 0)
  size.writeUInt32BE(height, 4)
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type), data])
    const ends = Buffer.alloc(8)
    ends.writeUInt32BE(data.length, 0)
    ends.writeUInt32BE(crc32(body), 4)
    return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)])
  }
  const signature = Buffer.from('89504e470d0a1a0a', 'hex')
  return Buffer.concat([
    signature,
    chunk('IHDR', size),
    chunk('IDAT', deflateSync(Buffer.alloc(100))),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

describe('images that are refused', () => {
  const jpeg = twoHalves(600, 400).jpeg().toBuffer()
  const png = twoHalves(600, 400).png({ compressionLevel: 0 }).toBuffer()

  it.each<[string, string, RegExp, () => Promise<Uint8Array> | Uint8Array]>([
    ['no bytes', 'image_unreadable', /no bytes/, () => new Uint8Array(0)],
    [
      'text',
      'image_type_unsupported',
      /JPEG, PNG, WebP/,
      () => Buffer.from('this is a note, named holiday.jpg\n'.repeat(9)),
    ],
    [
      'SVG',
      'image_type_unsupported',
      /JPEG, PNG, WebP/,
      () =>
        Buffer.from(
          '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
        ),
    ],
    [
      'SVG behind a comment',
      'image_type_unsupported',
      /JPEG, PNG, WebP/,
      () =>
        Buffer.from(
          `<?xml version="1.0"?><!-- ${' '.repeat(300)} --><svg xmlns="http://www.w3.org/2000/svg"/>`,
        ),
    ],
    [
      'PDF',
      'image_type_unsupported',
      /JPEG, PNG, WebP/,
      () => Buffer.from('%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n'),
    ],
    [
      'BMP',
      'image_type_unsupported',
      /JPEG, PNG, WebP/,
      () => Buffer.concat([Buffer.from('BM'), Buffer.alloc(120, 1)]),
    ],
    [
      'random bytes',
      'image_type_unsupported',
      /JPEG, PNG, WebP/,
      () => Buffer.from(Array.from({ length: 500 }, (_, i) => (i * 97) % 251)),
    ],
    [
      'half a JPEG',
      'image_unreadable',
      /damaged or cut off/,
      async () => (await jpeg).subarray(0, (await jpeg).length / 2),
    ],
    [
      'a JPEG without its last fifth',
      'image_unreadable',
      /damaged or cut off/,
      async () => (await jpeg).subarray(0, (await jpeg).length * 0.8),
    ],
    [
      'the first bytes of a JPEG',
      'image_unreadable',
      /damaged or cut off/,
      async () => (await jpeg).subarray(0, 30),
    ],
    [
      'half a PNG',
      'image_unreadable',
      /damaged or cut off/,
      async () => (await png).subarray(0, (await png).length / 2),
    ],
    [
      'half a WebP',
      'image_unreadable',
      /damaged or cut off/,
      async () => {
        const webp = await twoHalves(600, 400).webp().toBuffer()
        return webp.subarray(0, webp.length / 2)
      },
    ],
    [
      'half a GIF',
      'image_unreadable',
      /damaged or cut off/,
      async () => {
        const gif = await twoHalves(600, 400).gif().toBuffer()
        return gif.subarray(0, gif.length / 2)
      },
    ],
    [
      'half an AVIF',
      'image_unreadable',
      /damaged or cut off/,
      async () => {
        const avif = await twoHalves(600, 400).avif().toBuffer()
        return avif.subarray(0, avif.length / 2)
      },
    ],
    [
      'a JPEG whose middle is overwritten',
      'image_unreadable',
      /damaged or cut off/,
      async () => overwritten(await noise().jpeg().toBuffer()),
    ],
    [
      'a progressive JPEG whose middle is overwritten',
      'image_unreadable',
      /damaged or cut off/,
      async () => overwritten(await noise().jpeg({ progressive: true }).toBuffer(), 0x55),
    ],
    [
      'half a JPEG with an end',
      'image_unreadable',
      /damaged or cut off/,
      async () => {
        const bytes = await noise().jpeg().toBuffer()
        return Buffer.concat([bytes.subarray(0, bytes.length / 2), Buffer.from([0xff, 0xd9])])
      },
    ],
    [
      'a GIF whose middle is overwritten',
      'image_unreadable',
      /damaged or cut off/,
      async () => overwritten(await noise().gif().toBuffer()),
    ],
    [
      '20,000 × 20,000 pixels',
      'image_too_large',
      /20000 × 20000 pixels; expected at most 1000000/,
      () => pngOfSize(20_000, 20_000),
    ],
    ['one pixel too many', 'image_too_large', /1001 × 1000/, () => pngOfSize(1001, 1000)],
    [
      'a side of 17,000 pixels',
      'image_too_large',
      /17000 × 1 .*16384 on a side/,
      () => pngOfSize(17_000, 1),
    ],
    [
      'a GIF whose frames are many and large',
      'image_too_large',
      /3000 × 3000/,
      () => twoHalves(3000, 3000).gif().toBuffer(),
    ],
  ])('%s', async (_, code, sentence, make) => {
    const bytes = await make()
    await expect(run(bytes)).rejects.toMatchObject({ name: 'TandemError', code })
    await expect(run(bytes)).rejects.toThrow(sentence)
  })
})

/** Pixels that leave no part of a file empty. */
function noise(): Sharp {
  const size = { width: 640, height: 480, channels: 3 as const }
  return sharp({
    create: { ...size, background: '#808080', noise: { type: 'gaussian', mean: 128, sigma: 40 } },
  })
}

function overwritten(bytes: Buffer, value = 0): Buffer {
  return bytes.fill(value, Math.floor(bytes.length * 0.4), Math.floor(bytes.length * 0.6))
}

describe('an odd JPEG that every viewer shows is no damaged one', () => {
  const segments = async (): Promise<{ bytes: Buffer; tables: number }> => {
    const bytes = await noise().jpeg().toBuffer()
    return { bytes, tables: bytes.indexOf(Buffer.from([0xff, 0xdb])) }
  }
  it.each<[string, () => Promise<Buffer>]>([
    [
      'with fill bytes between segments',
      async () => {
        const { bytes, tables } = await segments()
        return Buffer.concat([bytes.subarray(0, tables), Buffer.alloc(7), bytes.subarray(tables)])
      },
    ],
    [
      'with bytes behind its end',
      async () => Buffer.concat([(await segments()).bytes, Buffer.from('behind\xff\xd8the end')]),
    ],
    [
      'of an unknown version of JFIF',
      async () => {
        const { bytes, tables } = await segments()
        const jfif = Buffer.from('ffe000104a46494600090909000001000100'.padEnd(36, '0'), 'hex')
        return Buffer.concat([Buffer.from([0xff, 0xd8]), jfif, bytes.subarray(tables)])
      },
    ],
  ])('%s', async (_, make) => {
    const bytes = await make()
    expect((await run(bytes)).pixels.length).toBeGreaterThan(0)
  })
})
