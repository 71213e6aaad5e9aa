/** Resizes images bit for bit as training does: Pillow's 8-bit resize. */
import { compile, reserve } from '../../wasm.js'
import type { Filter, PixelRules } from '../bundle/bundle.js'
import { placementOf } from './placement.js'

/** RGB, 8 bits, row after row: height × width × 3. */
export interface Raster {
  data: Uint8Array
  width: number
  height: number
}

/** Assembled from resample.wat; a test compares the two. */
export const ASSEMBLED =
  'AGFzbQEAAAABCQFgBX9/f39/AAIOAQJqcwZtZW1vcnkCAAADAwIAAAcRAgZhY3Jvc3MAAARkb3duAAEKqAUC2AECAn8DewNAIAAgAigCAGohBSACIARqIQYg' +
  'AkEEaiEC/QwAACAAAAAgAAAAIAAAACAAIQj9DAAAAAAAAAAAAAAAAAAAAAAhCQNAIAX9XQMA/QwAgAOAAYAEgAKABYCAgICA/Q4hByAIIAcgAv0JAgD9ugH9' +
  'rgEhCCAJIAcgAv0JAgT9ugH9rgEhCSAFQQZqIQUgAkEIaiECIAIgBkkNAAsgCCAJQRD9qwH9rgFBFv2sASEIIAggCP2FASEIIAEgCCAI/Wb9WgIAACABQQNq' +
  'IQEgAiADSQ0ACwvLAwIDfw17IAAgAigCAGohACACQQRqIQIgASAEaiEHA0AgACEFIAIhBv0MAAAgAAAAIAAAACAAAAAgACENIA0hDiANIQ8gDSEQ/QwAAAAA' +
  'AAAAAAAAAAAAAAAAIREgESESIBEhEyARIRQDQCAG/QkCACELIAb9CQIEIQwgBf0ABAAhCCAFIARqIQUgBf0ABAAhCSAFIARqIQUgCCAJ/Q0AEAERAhIDEwQU' +
  'BRUGFgcXIQogCCAJ/Q0IGAkZChoLGwwcDR0OHg8fIQkgCv2JASEIIAr9igEhCiANIAggC/26Af2uASENIBEgCCAM/boB/a4BIREgDiAKIAv9ugH9rgEhDiAS' +
  'IAogDP26Af2uASESIAn9iQEhCCAJ/YoBIQkgDyAIIAv9ugH9rgEhDyATIAggDP26Af2uASETIBAgCSAL/boB/a4BIRAgFCAJIAz9ugH9rgEhFCAGQQhqIQYg' +
  'BiADSQ0ACyABIA0gEUEQ/asB/a4BQRb9rAEgDiASQRD9qwH9rgFBFv2sAf2FASAPIBNBEP2rAf2uAUEW/awBIBAgFEEQ/asB/a4BQRb9rAH9hQH9Zv0LBAAg' +
  'AEEQaiEAIAFBEGohASABIAdJDQALCw=='

/**
 * Each computes one row. Addresses are in bytes. A table of `taps` lies from `entry` to `end`:
 * `across` has an entry for every pixel of the row, `down` one for the row.
 */
interface Passes {
  across(source: number, out: number, entry: number, end: number, entryBytes: number): void
  down(source: number, out: number, entry: number, end: number, rowBytes: number): void
}

const CHANNELS = 3
/** Fraction bits of a coefficient: Pillow's PRECISION_BITS, also used in resample.wat. */
const FRACTION_BITS = 22
/** Bytes that `down` reads and writes at once; the last ones may lie beyond a row. */
const VECTOR_BYTES = 16
const WHITE = [255, 255, 255]

// Images are resampled one after the other in one memory, which never shrinks.
const { memory, functions } = compile<Passes>(ASSEMBLED)(0)

/**
 * Resizes an image as Pillow 13 does (src/libImaging/Resample.c): across and then down with 8 bits
 * in between, or down first where the height shrinks by far more than the width. Pillow before 13
 * never went down first; a sixth of its values of a portrait differ, nearly all by 1. Of a cropped
 * image only the square is computed.
 * @param image - at least one pixel
 * @returns size × size × 3
 * @throws RangeError when memory runs out
 */
export function resample(image: Raster, rules: PixelRules): Uint8Array {
  const { size, resample: filter = 'bicubic', background = WHITE } = rules
  const { resized, left, top } = placementOf(image, rules)
  const columns: Line = {
    from: image.width,
    to: resized.width,
    ...within(left, resized.width, size),
  }
  const rows: Line = {
    from: image.height,
    to: resized.height,
    ...within(top, resized.height, size),
  }
  const pixels = resize(image, columns, rows, filter)
  if (columns.count === size && rows.count === size) return pixels
  const square = new Uint8Array(size * size * CHANNELS)
  for (let i = 0; i < square.length; i += 1) square[i] = background[i % CHANNELS] as number
  const rowBytes = columns.count * CHANNELS
  for (let y = 0; y < rows.count; y += 1) {
    const at = ((y - Math.min(0, top)) * size - Math.min(0, left)) * CHANNELS
    square.set(pixels.subarray(y * rowBytes, (y + 1) * rowBytes), at)
  }
  return square
}

/** A line of `from` pixels resized to `to`; `count` pixels from `start` on are computed. */
interface Line {
  from: number
  to: number
  start: number
  count: number
}

/** The part of a line of `length` that a window of `size` from `at` on shows. */
function within(at: number, length: number, size: number): Pick<Line, 'start' | 'count'> {
  const start = Math.max(0, at)
  return { start, count: Math.min(length, at + size) - start }
}

function resize(
  { data, width, height }: Raster,
  across: Line,
  down: Line,
  filter: Filter,
): Uint8Array {
  const isDownFirst = height > down.to && height - down.to > 2 * (width - across.to)
  const sourceBytes = width * CHANNELS
  const outBytes = across.count * CHANNELS
  const downBytes = isDownFirst ? sourceBytes : outBytes
  const columns = taps(across, CHANNELS, filter)
  const rows = taps(down, downBytes, filter)

  const columnsEnd = columns.table.byteLength
  const source = columnsEnd + rows.table.byteLength
  const between = source + height * sourceBytes
  const out = between + (isDownFirst ? down.count * sourceBytes : height * outBytes)
  const end = out + down.count * outBytes
  reserve(memory, end + VECTOR_BYTES)
  const bytes = new Uint8Array(memory.buffer)
  new Int32Array(memory.buffer).set(columns.table)
  new Int32Array(memory.buffer, columnsEnd).set(rows.table)
  bytes.set(data, source)

  const runAcross = (from: number, to: number, count: number): void => {
    for (let y = 0; y < count; y += 1) {
      functions.across(from + y * sourceBytes, to + y * outBytes, 0, columnsEnd, columns.entryBytes)
    }
  }
  const runDown = (from: number, to: number): void => {
    for (let y = 0; y < down.count; y += 1) {
      const entry = columnsEnd + y * rows.entryBytes
      functions.down(from, to + y * downBytes, entry, entry + rows.entryBytes, downBytes)
    }
  }
  if (isDownFirst) {
    runDown(source, between)
    runAcross(between, out, down.count)
  } else {
    runAcross(source, between, height)
    runDown(between, out)
  }
  return bytes.slice(out, end)
}

/** An entry for each output pixel: the address of its first source pixel, and coefficients. */
interface Taps {
  table: Int32Array
  entryBytes: number
}

/**
 * Coefficients to resize a line: centres map to centres, and the kernel widens as the line shrinks.
 * SIMD multiplies 16 bits, so a coefficient is low + 65536 × high: for
 * every two pixels a word of their low halves and one of their high halves.
 * @param step - bytes from one source pixel to the next
 */
function taps({ from, to, start: begin, count: length }: Line, step: number, filter: Filter): Taps {
  const scale = from / to
  const widening = Math.max(scale, 1)
  const { radius, kernel } = FILTERS[filter]
  const support = radius * widening
  const spans = Array.from({ length }, (_, i) => {
    const centre = (begin + i + 0.5) * scale
    const first = Math.max(0, Math.trunc(centre - support + 0.5))
    return { centre, first, count: Math.min(from, Math.trunc(centre + support + 0.5)) - first }
  })
  // The same even count for each pixel, padded with zeros.
  const even = 2 * Math.ceil(spans.reduce((most, { count }) => Math.max(most, count), 0) / 2)
  const table = new Int32Array(length * (1 + even))
  const weights = new Float64Array(even)
  let word = 0
  for (const { centre, first, count } of spans) {
    // Starts within the line, so that at most one pixel beyond it is read.
    const start = Math.max(0, Math.min(first, from - even))
    weights.fill(0)
    let sum = 0
    for (let i = 0; i < count; i += 1) {
      const weight = kernel((i + first - centre + 0.5) * (1 / widening))
      weights[first - start + i] = weight
      sum += weight
    }
    table[word++] = start * step
    for (let i = 0; i < even; i += 2) {
      const [first, second] = [
        fixedPoint((weights[i] as number) / sum),
        fixedPoint((weights[i + 1] as number) / sum),
      ]
      table[word++] = (first & 0xffff) | (second << 16)
      table[word++] = (high(first) & 0xffff) | (high(second) << 16)
    }
  }
  return { table, entryBytes: (1 + even) * Int32Array.BYTES_PER_ELEMENT }
}

/** Bicubic kernel with a = -0.5, in the order in which Pillow computes it. */
function bicubic(distance: number): number {
  const x = Math.abs(distance)
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0
}

function bilinear(distance: number): number {
  return Math.max(0, 1 - Math.abs(distance))
}

/** Sinc with a window of three lobes. */
function lanczos(distance: number): number {
  return distance >= -3 && distance < 3 ? sinc(distance) * sinc(distance / 3) : 0
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI)
}

/** Kernels of Pillow, and their support in source pixels of a line that does not shrink. */
const FILTERS: Readonly<Record<Filter, { radius: number; kernel: (distance: number) => number }>> =
  {
    bicubic: { radius: 2, kernel: bicubic },
    bilinear: { radius: 1, kernel: bilinear },
    lanczos: { radius: 3, kernel: lanczos },
  }

/** Rounded, halves away from zero. */
function fixedPoint(weight: number): number {
  return Math.trunc(weight * 2 ** FRACTION_BITS + (weight < 0 ? -0.5 : 0.5))
}

/** The high half, with a low half that is a signed number of 16 bits. */
function high(coefficient: number): number {
  return (coefficient + 0x8000) >> 16
}
