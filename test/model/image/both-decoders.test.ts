/**
 * Files of many kinds, decoded by the service and by the trainer: the same pixels, or both refuse.
 * sharp and Pillow make the files; heif/ has those that neither writes.
 */
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  copyFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp, { type Sharp } from 'sharp'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { packageFolder } from '../../../src/config.js'
import { preprocess } from '../../../src/model/image/preprocess.js'
import { greyProfile, tiffFile, withProfile } from '../../support/image-files.js'
import { randomNumbers } from '../../support/random-embeddings.js'
import { missingModules, runPython } from '../../support/python.js'

const missing = missingModules('PIL', 'pillow_heif', 'pyvips')
const SIDE = 32
/** Of a channel. */
const TOLERANCE = 3
const MIN_FILES = 100
const TEXTURE_SIDE = 120
const DAMAGES = 8
/** Four quarters, one of them half and one fully transparent with `alpha`. */
function quarters(alpha = false): Sharp {
  const colours = [
    [200, 30, 40, 255],
    [20, 60, 190, 128],
    [40, 160, 60, 0],
    [230, 220, 90, 255],
  ]
  const channels = alpha ? 4 : 3
  const raw = Buffer.from(colours.flatMap((colour) => colour.slice(0, channels)))
  return sharp(raw, { raw: { width: 2, height: 2, channels } }).resize(SIDE, SIDE, {
    kernel: 'nearest',
  })
}

const deep = (alpha = false): Sharp => quarters(alpha).toColourspace('rgb16')
const bestJpeg = { quality: 100, chromaSubsampling: '4:4:4' }
const tiff = (options: Partial<Parameters<typeof tiffFile>[0]>): Buffer =>
  tiffFile({
    width: SIDE,
    height: SIDE,
    samples: Buffer.alloc(SIDE * SIDE * 3 * ((options.bits ?? 8) / 8), 90),
    ...options,
  })

/** CIELab of 16 bits: a and b are signed. */
function labSamples(): Buffer {
  const samples = Buffer.alloc(SIDE * SIDE * 6)
  for (let i = 0; i < SIDE * SIDE; i += 1) {
    samples.writeUInt16LE(20_000 + 40 * i, 6 * i)
    samples.writeInt16LE(10 * i - 5000, 6 * i + 2)
    samples.writeInt16LE(4000 - 8 * i, 6 * i + 4)
  }
  return samples
}

/** Linear light, beyond 0 to 1 at its ends. */
const ramp = (): Buffer =>
  Buffer.from(Float32Array.from({ length: SIDE * SIDE * 3 }, (_, i) => i / 2500 - 0.1).buffer)

const files: Record<string, () => Promise<Buffer> | Buffer> = {
  'progressive.jpg': () =>
    quarters()
      .jpeg({ ...bestJpeg, progressive: true })
      .toBuffer(),
  'subsampled.jpg': () => quarters().jpeg().toBuffer(),
  'cmyk.jpg': () => quarters().toColourspace('cmyk').jpeg(bestJpeg).toBuffer(),
  'cmyk with profile.jpg': () => quarters().withIccProfile('cmyk').jpeg(bestJpeg).toBuffer(),
  'p3.jpg': () => quarters().withIccProfile('p3').jpeg(bestJpeg).toBuffer(),
  'p3.png': () => quarters().withIccProfile('p3').png().toBuffer(),
  'interlaced.png': () => quarters().png({ progressive: true }).toBuffer(),
  'palette with alpha.png': () => quarters(true).png({ palette: true }).toBuffer(),
  'of 16 bits.png': () => deep().png().toBuffer(),
  'of 16 bits with alpha.png': () => deep(true).png().toBuffer(),
  'p3 of 16 bits.png': () => deep().withIccProfile('p3').png().toBuffer(),
  'grey with profile.png': async () =>
    withProfile(await quarters().grayscale().png().toBuffer(), greyProfile(2)),
  'grey of 16 bits with profile.png': async () =>
    withProfile(
      await quarters().grayscale().toColourspace('grey16').png().toBuffer(),
      greyProfile(2),
    ),
  'lossy.webp': () => quarters().webp({ quality: 100 }).toBuffer(),
  'alpha.webp': () => quarters(true).webp({ lossless: true }).toBuffer(),
  'p3.webp': () => quarters().withIccProfile('p3').webp({ lossless: true }).toBuffer(),
  'lossless.avif': () => quarters().avif({ lossless: true }).toBuffer(),
  'of 10 bits.avif': () =>
    quarters()
      .avif({ ...bestJpeg, bitdepth: 10 })
      .toBuffer(),
  'p3 of 10 bits.avif': () =>
    deep()
      .withIccProfile('p3')
      .avif({ ...bestJpeg, bitdepth: 10 })
      .toBuffer(),
  'of 12 bits.avif': () =>
    quarters()
      .avif({ ...bestJpeg, bitdepth: 12 })
      .toBuffer(),
  'alpha.avif': () => quarters(true).avif(bestJpeg).toBuffer(),
  'subsampled.avif': () => quarters().resize(1, 1).resize(SIDE, SIDE).avif().toBuffer(),
  'edges of colour.avif': () =>
    quarters().avif({ quality: 100, chromaSubsampling: '4:2:0' }).toBuffer(),
  'tiled.tif': () => quarters().tiff({ tile: true, tileWidth: 16, tileHeight: 16 }).toBuffer(),
  'big.tif': () => quarters().tiff({ bigtiff: true }).toBuffer(),
  'of 16 bits.tif': () => deep().tiff().toBuffer(),
  'p3 of 16 bits.tif': () => deep().withIccProfile('p3').tiff().toBuffer(),
  'lab of 8 bits.tif': () => tiff({ photometric: 8 }),
  'lab of 16 bits.tif': () => tiff({ photometric: 8, bits: 16, samples: labSamples() }),
  'of 12 bits.tif': () => tiff({ bits: 12 }),
  'of 32-bit integers.tif': () => tiff({ bits: 32 }),
  'of floats.tif': () => tiff({ bits: 32, sampleFormat: 3, samples: ramp() }),
  'of signed integers.tif': () => tiff({ sampleFormat: 2 }),
  'large, turned.jpg': () =>
    quarters()
      .resize(640, 480, { kernel: 'nearest' })
      .jpeg(bestJpeg)
      .withMetadata({ orientation: 6 })
      .toBuffer(),
  'large, mirrored and turned.png': () =>
    quarters(true)
      .resize(480, 640, { kernel: 'nearest' })
      .png()
      .withMetadata({ orientation: 7 })
      .toBuffer(),
  'of two bits.png': () => quarters().png({ palette: true, colours: 4 }).toBuffer(),
  'p3 of 16 bits with alpha.png': () => deep(true).withIccProfile('p3').png().toBuffer(),
  'grey of 16 bits with alpha.png': () =>
    quarters(true).grayscale().toColourspace('grey16').png().toBuffer(),
  'p3 with alpha.avif': () => quarters(true).withIccProfile('p3').avif(bestJpeg).toBuffer(),
  'halved chroma of 10 bits.avif': () =>
    quarters().avif({ quality: 100, chromaSubsampling: '4:2:0', bitdepth: 10 }).toBuffer(),
  'lossy with alpha.webp': () => quarters(true).webp({ quality: 100 }).toBuffer(),
  'small file.webp': () => quarters().webp({ quality: 100, smartSubsample: true }).toBuffer(),
  'lossless and rounded.webp': () =>
    quarters().webp({ nearLossless: true, quality: 60 }).toBuffer(),
  'few colours.gif': () => quarters().gif({ colours: 4 }).toBuffer(),
  'interlaced.gif': () => quarters(true).gif({ progressive: true }).toBuffer(),
  'pyramid.tif': () => quarters().tiff({ pyramid: true }).toBuffer(),
  'alpha of 16 bits.tif': () => deep(true).tiff().toBuffer(),
  'cmyk with profile.tif': () => quarters().withIccProfile('cmyk').tiff().toBuffer(),
  'predicted.tif': () =>
    quarters().tiff({ compression: 'deflate', predictor: 'horizontal' }).toBuffer(),
  'of two bits.tif': () =>
    quarters().grayscale().tiff({ bitdepth: 2, compression: 'none' }).toBuffer(),
  'of six channels.tif': () =>
    tiff({ samplesPerPixel: 6, samples: Buffer.alloc(SIDE * SIDE * 6, 90) }),
  'of 64-bit floats.tif': () =>
    tiff({ bits: 64, sampleFormat: 3, samples: Buffer.alloc(SIDE * SIDE * 24) }),
  'cut off.jpg': async () => (await quarters().jpeg().toBuffer()).subarray(0, 400),
  'cut off.png': async () => (await quarters().png().toBuffer()).subarray(0, 90),
}

/** Stripes of colour, so that most bytes of a file are of pixels. */
function texture(): Sharp {
  const raw = Buffer.from(
    Array.from({ length: TEXTURE_SIDE ** 2 * 3 }, (_, i) => 128 + 90 * Math.sin(i / 7 + (i % 3))),
  )
  return sharp(raw, { raw: { width: TEXTURE_SIDE, height: TEXTURE_SIDE, channels: 3 } })
}

const sound: Record<string, () => Promise<Buffer>> = {
  'baseline.jpg': () => texture().jpeg({ optimiseCoding: false }).toBuffer(),
  'progressive.jpg': () => texture().jpeg({ progressive: true }).toBuffer(),
  'grey.jpg': () => texture().grayscale().jpeg().toBuffer(),
  'a.png': () => texture().png().toBuffer(),
  'interlaced.png': () => texture().png({ progressive: true }).toBuffer(),
  'a.gif': () => texture().gif().toBuffer(),
  'lossy.webp': () => texture().webp().toBuffer(),
  'lossless.webp': () => texture().webp({ lossless: true }).toBuffer(),
  'a.avif': () => texture().avif({ effort: 0 }).toBuffer(),
  'deflate.tif': () => texture().tiff({ compression: 'deflate' }).toBuffer(),
  'lzw.tif': () => texture().tiff({ compression: 'lzw' }).toBuffer(),
}

/** A file cut off, with bytes changed, with a run of zeros, and with bytes left out or put in. */
function damaged(bytes: Buffer, number: number, random: () => number): Buffer {
  const at = Math.floor(bytes.length * (0.1 + 0.85 * random()))
  if (number === 0) return bytes.subarray(0, at)
  const copy = Buffer.from(bytes)
  if (number === 1) return copy.fill(0, at, Math.min(at + 40, copy.length))
  if (number === 2) return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 9)])
  if (number === 3)
    return Buffer.concat([copy.subarray(0, at), Buffer.alloc(9, 255), copy.subarray(at)])
  for (let flips = 1 << (number - 4); flips > 0; flips -= 1) {
    const place = Math.floor(bytes.length * random())
    copy[place] = (copy[place] as number) ^ (1 << Math.floor(8 * random()))
  }
  return copy
}

/** JPEG files that every viewer shows, though libjpeg warns of most. */
async function oddJpegs(): Promise<Record<string, Buffer>> {
  const bytes = await texture().jpeg().toBuffer()
  const scan = bytes.indexOf(Buffer.from([0xff, 0xda]))
  const put = (extra: Buffer): Buffer =>
    Buffer.concat([bytes.subarray(0, scan), extra, bytes.subarray(scan)])
  const version = Buffer.from(bytes)
  version[11] = 9
  return {
    'fill of ff.jpg': put(Buffer.alloc(3, 255)),
    'fill of zeros.jpg': put(Buffer.alloc(5)),
    'much fill.jpg': put(Buffer.alloc(40)),
    'odd version.jpg': version,
    'bytes behind the end.jpg': Buffer.concat([bytes, Buffer.from('rest')]),
    'no end.jpg': bytes.subarray(0, -2),
  }
}

interface Decoded {
  pixels?: string
  refused?: string
}

/** Where service and trainer differ about the files of a folder, and how many both refuse. */
async function compare(
  folder: string,
  ofTrainer: Record<string, Decoded>,
): Promise<{ differences: string[]; refused: number }> {
  const differences: string[] = []
  let refusals = 0
  for (const [name, { pixels, refused }] of Object.entries(ofTrainer)) {
    const bytes = readFileSync(join(folder, name))
    const found = await preprocess(bytes, { size: SIDE }, 1e6).then(
      ({ pixels }) => pixels,
      (error: Error) => error.message,
    )
    if (typeof found === 'string') {
      refusals += 1
      if (refused === undefined) differences.push(`${name}: the service refuses: ${found}`)
    } else if (pixels === undefined) differences.push(`${name}: the trainer refuses: ${refused}`)
    else {
      const expected = Buffer.from(pixels, 'base64')
      const most = found.reduce((max, value, i) => {
        return Math.max(max, Math.abs(value - (expected[i] ?? 999)))
      }, 0)
      if (most > TOLERANCE) differences.push(`${name}: up to ${most} levels`)
    }
  }
  return { differences, refused: refusals }
}

describe.skipIf(missing !== null)(`service and trainer ${missing ?? ''}`, () => {
  let folder: string
  const script = new URL('./both_decoders.py', import.meta.url)
  const decodedByTrainer = (made: boolean): Record<string, Decoded> =>
    runPython(script, { folder, made }) as Record<string, Decoded>

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tandem-test-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  it('decode a file of each kind to the same pixels, or both refuse it', async () => {
    for (const [name, make] of Object.entries(files))
      writeFileSync(join(folder, `sharp ${name}`), await make())
    const heif = join(packageFolder, 'test/fixtures/heif')
    for (const name of readdirSync(heif)) copyFileSync(join(heif, name), join(folder, name))
    const ofTrainer = decodedByTrainer(true)
    expect((await compare(folder, ofTrainer)).differences).toEqual([])
    expect(Object.keys(ofTrainer).length).toBeGreaterThanOrEqual(MIN_FILES)
  }, 60_000)

  it('refuse the same damaged files, and read the same odd ones', async () => {
    const random = randomNumbers(17)
    for (const [name, make] of Object.entries(sound)) {
      const bytes = await make()
      for (let number = 0; number < DAMAGES; number += 1)
        writeFileSync(join(folder, `${number} ${name}`), damaged(bytes, number, random))
    }
    for (const [name, bytes] of Object.entries(await oddJpegs()))
      writeFileSync(join(folder, name), bytes)
    const ofTrainer = decodedByTrainer(false)
    const { differences, refused } = await compare(folder, ofTrainer)
    expect(differences).toEqual([])
    const number = Object.keys(ofTrainer).length
    expect(refused).toBeGreaterThan(number / 4)
    expect(refused).toBeLessThan((3 * number) / 4)
  }, 60_000)
})
