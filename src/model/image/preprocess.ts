/** Image files to pixels, and to the image that is stored. The only importer of sharp. */
import sharp, { type SharpOptions } from 'sharp'
import { TandemError } from '../../errors.js'
import type { Image } from '../models.js'
import { resample } from './resample.js'

export interface Preprocessed {
  /** size × size × 3, RGB, the whole image squashed into the square. */
  pixels: Uint8Array
  image: Image
}

/** Longest side of the stored image, and of what the pixels are made from. */
const STORED_SIDE = 512
/** Huffman tables of its own would make an image 2 % smaller, and take as long again to encode. */
const STORED = { quality: 85, optimiseCoding: false }
const MAX_SIDE = 16_384
/**
 * Beyond this an image is not worth its decoder; what this cannot stop is stopped by decoder.ts.
 */
const DECODE_TIMEOUT_S = 20

// Only these loaders, only from memory: everything else that libvips reads is a way in for nothing.
sharp.block({ operation: ['VipsForeignLoad'] })
sharp.unblock({
  operation: ['Jpeg', 'Png', 'Webp', 'Nsgif', 'Tiff', 'Heif'].map(
    (format) => `VipsForeignLoad${format}Buffer`,
  ),
})
// Every image comes once.
sharp.cache(false)
// Several images are decoded at a time. More threads for one of them take 3 % more of the cores,
// and end no sooner.
sharp.concurrency(1)

/**
 * Decodes the first page of a JPEG, PNG, WebP, GIF, TIFF or AVIF file.
 *
 * What it looks like on a screen is kept: EXIF orientation is applied, colours become sRGB,
 * transparency becomes white.
 * @param size side of the pixels
 * @param maxPixels more are refused by the header, before anything is decoded
 * @param isStored without it the image to store has no bytes
 * @throws TandemError `image_type_unsupported`, `image_too_large`, `image_unreadable`, `timed_out`
 */
export async function preprocess(
  bytes: Uint8Array,
  size: number,
  maxPixels: number,
  isStored = true,
  longestS = DECODE_TIMEOUT_S,
): Promise<Preprocessed> {
  await checkHeader(bytes, maxPixels)
  const { data, info } = await sharp(bytes, readOptions(maxPixels))
    .timeout({ seconds: longestS })
    .autoOrient()
    .resize(STORED_SIDE, STORED_SIDE, { fit: 'inside', withoutEnlargement: true })
    .flatten({ background: 'white' })
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
    .catch((cause: Error) => {
      if (cause.message.startsWith('timeout')) {
        throw new TandemError('timed_out', `The image was not decoded within ${longestS} s.`, {
          cause,
        })
      }
      throw new TandemError(
        'image_unreadable',
        `The image is damaged or cut off: ${firstLine(cause)}.`,
        { cause },
      )
    })
  const { width, height } = info
  // On a thread of libvips, while this one makes the pixels.
  const stored = isStored
    ? sharp(data, { raw: { width, height, channels: 3 } })
        .jpeg(STORED)
        .toBuffer()
    : new Uint8Array()
  const pixels = resample({ data, width, height }, size)
  return { pixels, image: { bytes: await stored, mime: 'image/jpeg', width, height } }
}

/**
 * `page` 0 alone, and strict about damage: an image that ends early is refused, a harmless warning
 * is not.
 */
function readOptions(maxPixels: number): SharpOptions {
  return { failOn: 'error', limitInputPixels: maxPixels, sequentialRead: true, pages: 1 }
}

async function checkHeader(bytes: Uint8Array, maxPixels: number): Promise<void> {
  if (bytes.length === 0) throw new TandemError('image_unreadable', 'The image has no bytes.')
  const { width, height } = await sharp(bytes, {
    ...readOptions(maxPixels),
    limitInputPixels: false,
  })
    .metadata()
    .catch((error: Error) => {
      throw refusal(error)
    })
  if (width * height > maxPixels || Math.max(width, height) > MAX_SIDE) {
    throw new TandemError('image_too_large', { width, height, maxPixels, maxSide: MAX_SIDE })
  }
}

/**
 * Whether the header was not understood at all, or belongs to a type that is read but is damaged.
 */
function refusal(cause: Error): TandemError {
  return /unsupported image format|not built in|Unsupported/i.test(cause.message)
    ? new TandemError(
        'image_type_unsupported',
        'The bytes are not an image of a type that is read: JPEG, PNG, WebP, GIF, TIFF or AVIF.',
        { cause },
      )
    : new TandemError('image_unreadable', `The image is damaged or cut off: ${firstLine(cause)}.`, {
        cause,
      })
}

function firstLine({ message }: Error): string {
  return (message.split('\n')[0] ?? '').replace(/\.$/, '')
}
