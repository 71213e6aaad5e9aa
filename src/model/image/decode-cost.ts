/** What the header of an image promises of the processor time that decoding takes. */
import {
  bitDepth,
  claimedSize,
  fileTypeOf,
  isAnimatedWebp,
  isProgressive,
  type FileType,
} from './file-header.js'

/** Costs of a pixel as measured for the worst content, in those of a baseline JPEG. */
const PIXEL_COSTS: Partial<Record<FileType, number>> = { JPEG: 1, PNG: 1, WebP: 2, GIF: 4 }
const PROGRESSIVE_COST = 4
const DEEP_COST = 4
/** A photo of a phone is within it. Most images within it take a tenth of a second or less. */
const QUICK_COST = 2 ** 24

/**
 * Whether decoding takes a fraction of a second: of still images of a usual kind and size, not of
 * files whose header cannot be read.
 */
export function isQuickToDecode(bytes: Uint8Array): boolean {
  const type = fileTypeOf(bytes)
  const cost = type === undefined ? undefined : PIXEL_COSTS[type]
  const size = cost === undefined ? undefined : claimedSize(bytes)
  if (cost === undefined || size === undefined || isAnimatedWebp(bytes)) return false
  const ofPasses = isProgressive(bytes) ? PROGRESSIVE_COST : 1
  const ofDepth = bitDepth(bytes) > 8 ? DEEP_COST : 1
  return size.width * size.height * cost * ofPasses * ofDepth <= QUICK_COST
}
