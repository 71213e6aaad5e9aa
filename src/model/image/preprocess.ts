/** Turns image files into pixels and the image to store. The only importer of sharp. */
import sharp, { type FailOnOptions, type Metadata, type Sharp, type SharpOptions } from 'sharp'
import { TandemError } from '../../errors.js'
import type { Image } from '../models.js'
import {
  asStillImage,
  claimedSize,
  countScans,
  fileTypeOf,
  hasStillImage,
  isApplePng,
  isSequence,
  type Size,
} from './file-header.js'
import { heicAsTiff } from './heic.js'
import type { PixelRules } from '../bundle/bundle.js'
import { resample, type Raster } from './resample.js'

export interface Preprocessed {
  /** size × size × 3, RGB. */
  pixels: Uint8Array
  image: Image
}

/** Longest side of the stored image. */
const STORED_SIDE = 512
const STORED_BOX = { width: STORED_SIDE, height: STORED_SIDE, fit: 'inside' } as const
/**
 * Short side of an image from which pixels are made, in sides of the square: a larger image is
 * shrunk to it first. Pillow calls it the reducing gap, and 3 without a visible difference; of 8 a
 * model sees none.
 */
const REDUCING_GAP = 8
/** Optimised Huffman tables would save 2 % of the size and double the time. */
const STORED = { quality: 85, optimiseCoding: false }
const MAX_SIDE = 16_384
/**
 * Each scan of a progressive JPEG passes over all coefficients: 7 ms for 50 megapixels. Encoders
 * write 10; libtiff has the same limit.
 */
const MAX_SCANS = 100
/** libheif and its decoders hold 16 to 24 bytes of a pixel, libvips holds rows of most others. */
const MAX_HEIF_PIXELS = 25_000_000
/** Limit of libvips; decoder.ts ends what it cannot stop. */
const DECODE_TIMEOUT_S = 20

const READ_TYPES = 'JPEG, PNG, WebP, GIF, TIFF or AVIF'
/**
 * Formats whose decoders only warn of damaged pixels and make some up. Warnings of other decoders
 * are of metadata.
 */
const WARNING_FORMATS = new Set<string>(['jpeg', 'gif'])
/**
 * Warnings of libjpeg (jerror.h) about files that every viewer shows: fill bytes between segments,
 * as cameras write them, odd versions and fields. More fill bytes are the rest of damaged data.
 */
const HARMLESS =
  /: (?:(\d+) extraneous bytes before marker|Warning: unknown JFIF|Unknown Adobe color transform|bad ICC marker|Invalid SOS parameters)/i
const MAX_FILL_BYTES = 16
/** Messages of libvips and its codecs about intact files of a kind that they do not read. */
const UNSUPPORTED =
  /unsupported (?!marker)|no images found|not implemented|not configured|not built in|not been built in|bad labq format|not a whole number of bytes|no known route|must have 1 or 4 elements|not at least \d+ samples|samples out of range/i
/** Messages that follow from another one, which says why. */
const CONSEQUENCE = /bad seek to|unknown pseudo-tag/i
const MAX_REASON_CHARS = 300
/** Sample formats that libvips would clip to white: they have no range that maps to 8 bits. */
const UNREADABLE_DEPTHS = new Set(['uint', 'int', 'char'])

// Only these loaders, only from memory: each other loader adds attack surface.
sharp.block({ operation: ['VipsForeignLoad'] })
sharp.unblock({
  operation: ['Jpeg', 'Png', 'Webp', 'Nsgif', 'Tiff', 'Heif'].map(
    (format) => `VipsForeignLoad${format}Buffer`,
  ),
})
// An image is decoded once.
sharp.cache(false)
// Several images are decoded in parallel. More threads for one image cost 3 % more core time and
// save no wall time.
sharp.concurrency(1)

/**
 * Decodes the first page of a JPEG, PNG, WebP, GIF, TIFF or AVIF file, or of a HEIC file where its
 * decoder is installed.
 *
 * Applies the EXIF orientation, converts colours to sRGB and puts transparency on the background.
 * @param maxPixels - images with more are refused by their header
 * @param isStored - whether to encode the image to store
 * @throws TandemError `image_type_unsupported`, `image_too_large`, `image_too_costly`,
 *   `image_unreadable`, `timed_out`
 */
export async function preprocess(
  bytes: Uint8Array,
  rules: PixelRules,
  maxPixels: number,
  isStored = true,
  timeoutS = DECODE_TIMEOUT_S,
): Promise<Preprocessed> {
  if (bytes.length === 0) throw new TandemError('image_unreadable', 'The image has no bytes.')
  if (isSequence(bytes) && !hasStillImage(bytes))
    throw kindRefusal('AVIF', 'it is animated and has no still image')
  // libvips reads the still image that an animated AVIF has, but not under the animated brand.
  const still = isSequence(bytes) ? asStillImage(bytes) : bytes
  const header = fileTypeOf(bytes) === 'HEIC' ? undefined : await checkHeader(still, maxPixels)
  const isHeic = header === undefined || header.compression === 'hevc'
  const limits = { maxPixels: Math.min(maxPixels, MAX_HEIF_PIXELS), maxSide: MAX_SIDE }
  const decoded = isHeic ? heicAsTiff(bytes, limits, timeoutS) : still
  const file = await Promise.resolve(decoded).catch((error: Error) => {
    throw error instanceof TandemError ? error : refusal(error, bytes, maxPixels)
  })
  const metadata = isHeic ? await checkHeader(file, maxPixels) : header
  const isFromStored = rules.source !== 'sent'
  const most = REDUCING_GAP * rules.size
  const rasterOf = (failOn: FailOnOptions): Promise<Raster> => {
    const upright = sharp(file, { ...readOptions(maxPixels), failOn })
      .timeout({ seconds: timeoutS })
      .autoOrient()
      .resize(
        isFromStored
          ? { ...STORED_BOX, withoutEnlargement: true }
          : { width: most, height: most, fit: 'outside', withoutEnlargement: true },
      )
      .flatten({ background: colour(rules.background) })
    return isDeepWithProfile(metadata) ? deepRaster(upright, metadata) : plainRaster(upright)
  }
  const raster = await (
    WARNING_FORMATS.has(metadata.format)
      ? rasterOf('warning').catch((cause: Error) => {
          if (!isHarmless(cause)) throw cause
          return rasterOf('error')
        })
      : rasterOf('error')
  ).catch((cause: Error) => {
    if (cause.message.startsWith('timeout')) {
      throw new TandemError('timed_out', `The image was not decoded within ${timeoutS} s.`, {
        cause,
      })
    }
    throw refusal(cause, file, maxPixels)
  })
  // Runs on a thread of libvips while this thread makes the pixels.
  const image = storedImage(raster, isStored)
  const pixels = resample(raster, rules)
  return { pixels, image: await image }
}

async function storedImage({ data, width, height }: Raster, isStored: boolean): Promise<Image> {
  const mime = 'image/jpeg'
  if (!isStored) return { bytes: new Uint8Array(), mime, width, height }
  const { data: bytes, info } = await sharp(data, { raw: { width, height, channels: 3 } })
    .resize({ ...STORED_BOX, withoutEnlargement: true })
    .jpeg(STORED)
    .toBuffer({ resolveWithObject: true })
  return { bytes, mime, width: info.width, height: info.height }
}

function colour(rgb: readonly number[] = []): { r: number; g: number; b: number } {
  const [r = 255, g = 255, b = 255] = rgb
  return { r, g, b }
}

/** An image file without loss. */
export function encodePng({ data, width, height }: Raster): Promise<Buffer> {
  return sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer()
}

/** First page only; truncated images are refused. */
function readOptions(maxPixels: number): SharpOptions {
  return { failOn: 'error', limitInputPixels: maxPixels, sequentialRead: true, pages: 1 }
}

function isHarmless({ message }: Error): boolean {
  const match = HARMLESS.exec(message)
  return match !== null && Number(match[1] ?? 0) <= MAX_FILL_BYTES
}

async function plainRaster(image: Sharp): Promise<Raster> {
  const { data, info } = await image
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
  return { data, width: info.width, height: info.height }
}

/**
 * Whether an image has 16 bits a sample and a profile that applies. sharp converts such colours to
 * Display P3, and grey not at all.
 */
function isDeepWithProfile({ space, icc }: Metadata): boolean {
  const expected = { rgb16: 'RGB ', grey16: 'GRAY' }[space as string]
  // Colour space and signature of a profile (ICC.1, section 7.2).
  return (
    expected !== undefined &&
    icc?.toString('latin1', 16, 20) === expected &&
    icc.toString('latin1', 36, 40) === 'acsp'
  )
}

/** Converts to sRGB in 16 bits, then to 8. */
async function deepRaster(image: Sharp, { space }: Metadata): Promise<Raster> {
  const { data, info } = await image
    .clone()
    .toColourspace(space)
    .withIccProfile('srgb')
    .raw({ depth: 'ushort' })
    .toBuffer({ resolveWithObject: true })
  // The profile of a grey image did not apply.
  if (info.channels !== 3) return plainRaster(image)
  const { width, height } = info
  const deep = new Uint16Array(data.buffer, data.byteOffset, width * height * 3)
  return { data: Uint8Array.from(deep, (value) => Math.round(value / 257)), width, height }
}

/** The metadata of an image that may be decoded. */
async function checkHeader(bytes: Uint8Array, maxPixels: number): Promise<Metadata> {
  if (fileTypeOf(bytes) === 'JPEG' && countScans(bytes, MAX_SCANS + 1) > MAX_SCANS)
    throw new TandemError(
      'image_too_costly',
      `The JPEG has more than ${MAX_SCANS} scans, each of which is decoded over the whole image.`,
    )
  if (isApplePng(bytes)) throw kindRefusal('PNG', "it is a variant of Apple's developer tools")
  const metadata = await sharp(bytes, { ...readOptions(maxPixels), limitInputPixels: false })
    .metadata()
    .catch((error: Error) => {
      throw refusal(error, bytes, maxPixels)
    })
  const { compression, depth, format } = metadata
  if (format === 'heif' && !['av1', 'hevc'].includes(compression ?? ''))
    throw kindRefusal('HEIF', `it is compressed as ${compression ?? 'an unknown type'}`)
  refuseLarge(metadata, format === 'heif' ? Math.min(maxPixels, MAX_HEIF_PIXELS) : maxPixels)
  if (UNREADABLE_DEPTHS.has(depth))
    throw kindRefusal(format.toUpperCase(), `its samples are of the type ${depth}`)
  return metadata
}

function refuseLarge({ width, height }: Size, maxPixels: number): void {
  if (width * height > maxPixels || Math.max(width, height) > MAX_SIDE) {
    throw new TandemError('image_too_large', { width, height, maxPixels, maxSide: MAX_SIDE })
  }
}

/** The error for a file that libvips rejects: too large, of a kind that is not read, or damaged. */
function refusal(cause: Error, bytes: Uint8Array, maxPixels: number): TandemError {
  const claimed = claimedSize(bytes)
  try {
    if (claimed !== undefined) refuseLarge(claimed, maxPixels)
  } catch (error) {
    return error as TandemError
  }
  const type = fileTypeOf(bytes)
  const isUnknown = cause.message.includes('unsupported image format')
  if (isUnknown && type === undefined) {
    return new TandemError(
      'image_type_unsupported',
      `The bytes are not an image of a type that is read: ${READ_TYPES}.`,
      { cause },
    )
  }
  const reason = isUnknown ? '' : reasonOf(cause)
  if (UNSUPPORTED.test(reason)) return kindRefusal(type ?? 'file', reason, cause)
  return new TandemError(
    'image_unreadable',
    `The image is damaged or cut off${reason === '' ? '' : `: ${reason}`}.`,
    { cause },
  )
}

function kindRefusal(type: string, reason: string, cause?: Error): TandemError {
  return new TandemError(
    'image_type_unsupported',
    `This kind of ${type} is not read: ${reason}. Convert it to JPEG or PNG first.`,
    { cause },
  )
}

/** The distinct messages of libvips, without those that follow from another. */
function reasonOf({ message }: Error): string {
  const lines = message
    .replace(/^Input buffer has corrupt header:/, '')
    .split('\n')
    .map((line) => line.trim().replace(/\.$/, ''))
    .filter((line) => /[a-z]/i.test(line) && !CONSEQUENCE.test(line))
  return [...new Set(lines)].join('; ').slice(0, MAX_REASON_CHARS)
}
