/** Kinds of image files: colours are those of a viewer, and a refusal names its true reason. */
import sharp, { type Sharp } from 'sharp'
import { describe, expect, it } from 'vitest'
import { preprocess } from '../../../src/model/image/preprocess.js'
import { greyProfile, isoBox, pngChunk, tiffFile, withProfile } from '../../support/image-files.js'

const SIZE = 8
const MAX_PIXELS = 1_000_000
/** Of a channel. */
const TOLERANCE = 3
const SIDE = 16
const BRICK = [200, 60, 50] as const

/** The colour of the middle. */
async function colourOf(bytes: Uint8Array): Promise<number[]> {
  const { pixels } = await preprocess(bytes, { size: SIZE }, MAX_PIXELS)
  const middle = 3 * (SIZE * (SIZE / 2) + SIZE / 2)
  return [...pixels.subarray(middle, middle + 3)]
}

async function expectColour(bytes: Uint8Array, expected: readonly number[]): Promise<void> {
  const colour = await colourOf(bytes)
  const distance = Math.max(...colour.map((value, i) => Math.abs(value - (expected[i] as number))))
  expect(distance, `${colour.join()}, not ${expected.join()}`).toBeLessThanOrEqual(TOLERANCE)
}

const brick = (): Sharp =>
  sharp({
    create: {
      width: SIDE,
      height: SIDE,
      channels: 3,
      background: { r: BRICK[0], g: BRICK[1], b: BRICK[2] },
    },
  })

/** The same colour in Display P3, 16 bits a sample. */
const deep = (): Sharp => brick().toColourspace('rgb16').withIccProfile('p3')

describe('16 bits a sample with a colour profile: the colours of the profile', () => {
  it('in a PNG', () =>
    deep()
      .png()
      .toBuffer()
      .then((bytes) => expectColour(bytes, BRICK)))

  it('in a PNG with transparency', async () => {
    const bytes = await brick()
      .ensureAlpha(1)
      .toColourspace('rgb16')
      .withIccProfile('p3')
      .png()
      .toBuffer()
    expect(await sharp(bytes).metadata()).toMatchObject({ depth: 'ushort', channels: 4 })
    await expectColour(bytes, BRICK)
  })

  it('in a TIFF', async () => {
    const png = await deep().png().toBuffer()
    const { icc } = await sharp(png).metadata()
    // PNG and libvips hold the same samples; `ignoreIcc` leaves them as they are.
    const samples = await sharp(png, { ignoreIcc: true })
      .toColourspace('rgb16')
      .raw({ depth: 'ushort' })
      .toBuffer()
    const bytes = tiffFile({ width: SIDE, height: SIDE, samples, bits: 16, profile: icc as Buffer })
    expect(await sharp(bytes).metadata()).toMatchObject({ format: 'tiff', space: 'rgb16' })
    await expectColour(bytes, BRICK)
  })

  it.each([10, 12] as const)('in an AVIF of %i bits', async (bitdepth) => {
    const bytes = await deep()
      .avif({ bitdepth, quality: 100, chromaSubsampling: '4:4:4' })
      .toBuffer()
    expect(await sharp(bytes).metadata()).toMatchObject({
      bitsPerSample: bitdepth,
      hasProfile: true,
    })
    await expectColour(bytes, BRICK)
  })

  it('in a grey PNG', async () => {
    const grey = sharp({
      create: { width: SIDE, height: SIDE, channels: 3, background: '#808080' },
    })
    const png = await grey.grayscale().toColourspace('grey16').png().toBuffer()
    // Linear light of 128 / 255 is 188 in sRGB.
    await expectColour(withProfile(png, greyProfile(1)), [188, 188, 188])
  })

  it('as they are with a grey profile that is damaged behind its header', async () => {
    const grey = sharp({
      create: { width: SIDE, height: SIDE, channels: 3, background: '#808080' },
    })
    const png = await grey.grayscale().toColourspace('grey16').png().toBuffer()
    await expectColour(withProfile(png, greyProfile(1).fill(7, 128)), [128, 128, 128])
  })

  it('not those of a profile that is damaged', async () => {
    const png = await brick().toColourspace('rgb16').png().toBuffer()
    await expectColour(withProfile(png, Buffer.alloc(200, 7)), BRICK)
  })
})

const av1 = (): Promise<Buffer> => brick().avif({ quality: 90 }).toBuffer()

/** The file with other brands: its ftyp box is replaced by one of the same length. */
function withBrands(avif: Buffer, main: string, compatible: string[]): Buffer {
  const length = avif.readUInt32BE(0)
  const listed = compatible.join('').padEnd(length - 16, compatible.at(-1))
  const box = isoBox(
    'ftyp',
    Buffer.from(`${main}\0\0\0\0${listed.slice(0, length - 16)}`, 'latin1'),
  )
  return Buffer.concat([box, avif.subarray(length)])
}

it('an animated AVIF is read by its still image', async () => {
  const bytes = withBrands(await av1(), 'avis', ['avif', 'mif1', 'miaf'])
  await expect(sharp(bytes).metadata()).rejects.toThrow('unsupported image format')
  await expectColour(bytes, BRICK)
})

it('a Lab TIFF of 16 bits is read', async () => {
  const samples = Buffer.alloc(SIDE * SIDE * 6)
  // L 0 to 65535 for 0 to 100, a and b times 256 (TIFF 6.0, section 23).
  for (let at = 0; at < samples.length; at += 6) samples.writeUInt16LE(32_768, at)
  const bytes = tiffFile({ width: SIDE, height: SIDE, samples, bits: 16, photometric: 8 })
  await expectColour(bytes, [119, 119, 119])
})

async function refusalOf(bytes: Uint8Array): Promise<{ code: string; message: string }> {
  return preprocess(bytes, { size: SIZE }, MAX_PIXELS).then(
    () => ({ code: 'read', message: '' }),
    (error: unknown) => error as { code: string; message: string },
  )
}

describe('an intact file of a kind that is not read is no damaged file', () => {
  const tiff = (options: Partial<Parameters<typeof tiffFile>[0]>): Buffer =>
    tiffFile({
      width: SIDE,
      height: SIDE,
      samples: Buffer.alloc(SIDE * SIDE * 3 * ((options.bits ?? 8) / 8), 90),
      ...options,
    })
  const jpeg = async (offset: number, value: number): Promise<Buffer> => {
    const bytes = await brick().jpeg().toBuffer()
    bytes[bytes.indexOf(Buffer.from([0xff, 0xc0])) + offset] = value
    return bytes
  }

  it.each<[string, RegExp, () => Promise<Buffer> | Buffer]>([
    [
      'a Lab TIFF of 8 bits',
      /This kind of TIFF is not read: .*labq/,
      () => tiff({ photometric: 8 }),
    ],
    ['a TIFF of 12 bits', /whole number of bytes/, () => tiff({ bits: 12 })],
    ['a TIFF of 32-bit integers', /type uint/, () => tiff({ bits: 32 })],
    ['a TIFF in JPEG 2000', /34712 .*not implemented/, () => tiff({ compression: 34_712 })],
    ['a TIFF in Zstandard', /ZSTD .*not configured/, () => tiff({ compression: 50_000 })],
    ['a TIFF in another colour space', /no known route/, () => tiff({ photometric: 9 })],
    ['a JPEG of 12 bits', /Unsupported JPEG data precision 12/, () => jpeg(4, 12)],
    ['a hierarchical JPEG', /Unsupported JPEG process/, () => jpeg(1, 0xc5)],
    [
      "a PNG of Apple's tools",
      /Apple/,
      async () => {
        const png = await brick().png().toBuffer()
        const chunk = pngChunk('CgBI', Buffer.from([0x50, 0, 0x20, 6]))
        return Buffer.concat([png.subarray(0, 8), chunk, png.subarray(8)])
      },
    ],
    [
      'an animated AVIF without a still image',
      /kind of AVIF is not read: it is animated and has no still image/,
      async () => withBrands(await av1(), 'avis', ['msf1', 'iso8']),
    ],
  ])('%s', async (_, sentence, make) => {
    const { code, message } = await refusalOf(await make())
    expect(message).toMatch(sentence)
    expect(message).not.toMatch(/damaged|cut off/)
    expect(code).toBe('image_type_unsupported')
  })
})

it.each(['II*\0', 'MM\0*'])(
  'a TIFF that ends before its directory is damaged: %j',
  async (start) => {
    const bytes = Buffer.concat([Buffer.from(start, 'latin1'), Buffer.alloc(9, 9)])
    expect(await refusalOf(bytes)).toMatchObject({
      code: 'image_unreadable',
      message: expect.stringContaining('damaged or cut off') as string,
    })
  },
)

it('a damaged AVIF is refused with the reason of its decoder alone', async () => {
  const bytes = await av1()
  const { code, message } = await refusalOf(bytes.subarray(0, bytes.length - 20))
  expect(code).toBe('image_unreadable')
  expect(message).toMatch(/damaged or cut off: .*end of file/i)
  expect(message).not.toMatch(/bad seek/)
})

describe('a size that no decoder takes is too large', () => {
  const png = (width: number, height: number): Buffer => {
    const header = Buffer.alloc(13)
    header.writeUInt32BE(width)
    header.writeUInt32BE(height, 4)
    header.set([8, 2], 8)
    return Buffer.concat([
      Buffer.from('89504e470d0a1a0a', 'hex'),
      pngChunk('IHDR', header),
      pngChunk('IDAT', Buffer.alloc(20)),
      pngChunk('IEND', Buffer.alloc(0)),
    ])
  }
  const side = 2 ** 31
  it.each<[string, number, () => Promise<Buffer> | Buffer]>([
    ['a PNG', side, () => png(side, side)],
    ['a PNG of the most that PNG allows', side - 1, () => png(side - 1, side - 1)],
    ['a TIFF', side, () => tiffFile({ width: side, height: side, samples: Buffer.alloc(20) })],
    [
      'an AVIF',
      side,
      async () => {
        const bytes = await av1()
        const at = bytes.indexOf('ispe') + 8
        bytes.writeUInt32BE(side, at)
        bytes.writeUInt32BE(side, at + 4)
        return bytes
      },
    ],
    [
      'a JPEG',
      65_535,
      async () => {
        const bytes = await brick().jpeg().toBuffer()
        const at = bytes.indexOf(Buffer.from([0xff, 0xc0])) + 5
        return bytes.fill(0xff, at, at + 4)
      },
    ],
  ])('%s', async (_, claimed, make) => {
    const { code, message } = await refusalOf(await make())
    expect(code).toBe('image_too_large')
    expect(message).toContain(`${claimed} × ${claimed} pixels`)
  })
})
