/** Turns image files into pixels and the image to store. The only importer of sharp. */
import sharp, { type SharpOptions } from 'sharp'
import { TandemError } from '../../errors.js'
import type { Image } from '../models.js'
import { resample } from './resample.js'

export interface Preprocessed {
  /** size × size × 3, RGB, the whole image squashed into the square. */
  pixels: Uint8Array
  image: Image
}

/** Longest side of the stored image, from which the pixels are made. */
const STORED_SIDE = 512
/** Optimised Huffman tables would save 2 % of the size and double the time. */
const STORED = { quality: 85, optimiseCoding: false }
const MAX_SIDE = 16_384
/** Limit of libvips; decoder.ts ends what it cannot stop. */
const DECODE_TIMEOUT_S = 20

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
 * Decodes the first page of a JPEG, PNG, WebP, GIF, TIFF or AVIF file.
 *
 * Applies the EXIF orientation, converts colours to sRGB and puts transparency on white.
 * @param size - side of the pixels
 * @param maxPixels - images with more are refused by their header
 * @param isStored - whether to encode the image to store
 * @throws TandemError `image_type_unsupported`, `image_too_large`, `image_unreadable`, `timed_out`
 */
export async function preprocess(
  bytes: Uint8Array,
  size: number,
  maxPixels: number,
  isStored = true,
  timeoutS = DECODE_TIMEOUT_S,
): Promise<Preprocessed> {
  await checkHeader(bytes, maxPixels)
  const { data, info } = await sharp(bytes, readOptions(maxPixels))
    .timeout({ seconds: timeoutS })
    .autoOrient()
    .resize(STORED_SIDE, STORED_SIDE, { fit: 'inside', withoutEnlargement: true })
    .flatten({ background: 'white' })
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
    .catch((cause: Error) => {
      if (cause.message.startsWith('timeout')) {
        throw new TandemError('timed_out', `The image was not decoded within ${timeoutS} s.`, {
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
  // Runs on a thread of libvips while this thread makes the pixels.
  const stored = isStored
    ? sharp(data, { raw: { width, height, channels: 3 } })
        .jpeg(STORED)
        .toBuffer()
    : new Uint8Array()
  const pixels = resample({ data, width, height }, size)
  return { pixels, image: { bytes: await stored, mime: 'image/jpeg', width, height } }
}

/** First page only; truncated images are refused, harmless warnings are not. */
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

/** The error for a header of an unknown type, or of a known type that is damaged. */
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
