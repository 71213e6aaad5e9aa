/** Where the pixels of an image lie in the square that the image encoder sees. */
import type { PixelRules } from '../bundle/bundle.js'
import type { Size } from './file-header.js'

/** The image is resized to `resized`. The square begins at `left`, `top` of it, or before it. */
export interface Placement {
  resized: Size
  left: number
  top: number
}

/**
 * As torchvision's Resize and CenterCrop, transformers' image processors and open_clip's
 * ResizeKeepRatio and CenterCropOrPad compute it.
 */
export function placementOf(
  { width, height }: Size,
  { size, fit = 'fill', centre = 'down' }: PixelRules,
): Placement {
  if (fit === 'fill') return { resized: { width: size, height: size }, left: 0, top: 0 }
  if (fit === 'pad') {
    const ratio = Math.max(height / size, width / size)
    const resized = {
      width: Math.max(1, halfToEven(width / ratio)),
      height: Math.max(1, halfToEven(height / ratio)),
    }
    return {
      resized,
      left: -Math.floor((size - resized.width) / 2),
      top: -Math.floor((size - resized.height) / 2),
    }
  }
  const long = Math.trunc((size * Math.max(width, height)) / Math.min(width, height))
  const resized = width < height ? { width: size, height: long } : { width: long, height: size }
  const round = centre === 'even' ? halfToEven : Math.floor
  return {
    resized,
    left: round((resized.width - size) / 2),
    top: round((resized.height - size) / 2),
  }
}

function halfToEven(value: number): number {
  const floor = Math.floor(value)
  if (value - floor !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}
