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
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packageFolder } from '../../../src/config.js'
import { preprocess } from '../../../src/model/image/preprocess.js'
import { greyProfile, tiffFile, withProfile } from '../../support/image-files.js'
import { missingModules, runPython } from '../../support/python.js'

const missing = missingModules('PIL', 'pillow_heif', 'tifffile')
const SIDE = 32
/** Of a channel. */
const TOLERANCE = 3
const MIN_FILES = 80
/**
 * Levels at which files are known to differ: libheif and libavif interpolate halved chroma in other
 * ways, and neither sharp nor Pillow can choose. It shows at hard edges between colours.
 */
const KNOWN: Readonly<Record<string, number>> = { 'sharp edges of colour.avif': 95 }

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
  'cut off.jpg': async () => (await quarters().jpeg().toBuffer()).subarray(0, 400),
  'cut off.png': async () => (await quarters().png().toBuffer()).subarray(0, 90),
}

interface Decoded {
  pixels?: string
  refused?: string
}

describe.skipIf(missing !== null)(`a file of each kind ${missing ?? ''}`, () => {
  let folder: string
  let ofTrainer: Record<string, Decoded>

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tandem-test-'))
    for (const [name, make] of Object.entries(files))
      writeFileSync(join(folder, `sharp ${name}`), await make())
    const heif = join(packageFolder, 'test/fixtures/heif')
    for (const name of readdirSync(heif)) copyFileSync(join(heif, name), join(folder, name))
    const script = new URL('./both_decoders.py', import.meta.url)
    ofTrainer = runPython(script, { folder }) as Record<string, Decoded>
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  it('is decoded by service and trainer to the same pixels, or refused by both', async () => {
    const differences: string[] = []
    for (const [name, { pixels, refused }] of Object.entries(ofTrainer)) {
      const bytes = readFileSync(join(folder, name))
      const found = await preprocess(bytes, { size: SIDE }, 1e6).then(
        ({ pixels }) => pixels,
        (error: Error) => error.message,
      )
      if (typeof found === 'string') {
        if (refused === undefined) differences.push(`${name}: the service refuses: ${found}`)
      } else if (pixels === undefined) differences.push(`${name}: the trainer refuses: ${refused}`)
      else {
        const expected = Buffer.from(pixels, 'base64')
        const most = found.reduce((max, value, i) => {
          return Math.max(max, Math.abs(value - (expected[i] ?? 999)))
        }, 0)
        if (most > (KNOWN[name] ?? TOLERANCE)) differences.push(`${name}: up to ${most} levels`)
      }
    }
    expect(differences).toEqual([])
    expect(Object.keys(ofTrainer).length).toBeGreaterThanOrEqual(MIN_FILES)
  }, 60_000)
})
