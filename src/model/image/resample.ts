/** Resizes images bit for bit as training does: Pillow's 8-bit resize with BICUBIC. */
import { compile, reserve } from '../../wasm.js'

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

// Images are resampled one after the other in one memory, which never shrinks.
const { memory, functions } = compile<Passes>(ASSEMBLED)(0)

/**
 * Resizes an image to a square as Pillow 13 does (src/libImaging/Resample.c): across and then down
 * with 8 bits in between, or down first where the height shrinks by far more than the width. Pillow
 * before 13 never went down first; a sixth of its values of a portrait differ, nearly all by 1.
 * @param image - at least one pixel
 * @returns size × size × 3
 * @throws RangeError when memory runs out
 */
export function resample({ data, width, height }: Raster, size: number): Uint8Array {
  const isDownFirst = height > size && height - size > 2 * (width - size)
  const sourceBytes = width * CHANNELS
  const outBytes = size * CHANNELS
  const downBytes = isDownFirst ? sourceBytes : outBytes
  const columns = taps(width, size, CHANNELS)
  const rows = taps(height, size, downBytes)

  const columnsEnd = columns.table.byteLength
  const source = columnsEnd + rows.table.byteLength
  const between = source + height * sourceBytes
  const out = between + (isDownFirst ? size * sourceBytes : height * outBytes)
  const end = out + size * outBytes
  reserve(memory, end + VECTOR_BYTES)
  const bytes = new Uint8Array(memory.buffer)
  new Int32Array(memory.buffer).set(columns.table)
  new Int32Array(memory.buffer, columnsEnd).set(rows.table)
  bytes.set(data, source)

  const across = (from: number, to: number, count: number): void => {
    for (let y = 0; y < count; y += 1) {
      functions.across(from + y * sourceBytes, to + y * outBytes, 0, columnsEnd, columns.entryBytes)
    }
  }
  const down = (from: number, to: number): void => {
    for (let y = 0; y < size; y += 1) {
      const entry = columnsEnd + y * rows.entryBytes
      functions.down(from, to + y * downBytes, entry, entry + rows.entryBytes, downBytes)
    }
  }
  if (isDownFirst) {
    down(source, between)
    across(between, out, size)
  } else {
    across(source, between, height)
    down(between, out)
  }
  return bytes.slice(out, end)
}

/** An entry for each output pixel: the address of its first source pixel, and coefficients. */
interface Taps {
  table: Int32Array
  entryBytes: number
}

/**
 * Coefficients to resize a line from `from` to `to` pixels: centres map to centres, and the kernel
 * widens as the line shrinks. SIMD multiplies 16 bits, so a coefficient is low + 65536 × high: for
 * every two pixels a word of their low halves and one of their high halves.
 * @param step - bytes from one source pixel to the next
 */
function taps(from: number, to: number, step: number): Taps {
  const scale = from / to
  const widening = Math.max(scale, 1)
  const support = 2 * widening
  const spans = Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale
    const first = Math.max(0, Math.trunc(centre - support + 0.5))
    return { centre, first, count: Math.min(from, Math.trunc(centre + support + 0.5)) - first }
  })
  // The same even count for each pixel, padded with zeros.
  const even = 2 * Math.ceil(spans.reduce((most, { count }) => Math.max(most, count), 0) / 2)
  const table = new Int32Array(to * (1 + even))
  const weights = new Float64Array(even)
  let word = 0
  for (const { centre, first, count } of spans) {
    // Starts within the line, so that at most one pixel beyond it is read.
    const start = Math.max(0, Math.min(first, from - even))
    weights.fill(0)
    let sum = 0
    for (let i = 0; i < count; i += 1) {
      const weight = bicubic((i + first - centre + 0.5) * (1 / widening))
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

/** Rounded, halves away from zero. */
function fixedPoint(weight: number): number {
  return Math.trunc(weight * 2 ** FRACTION_BITS + (weight < 0 ? -0.5 : 0.5))
}

/** The high half, with a low half that is a signed number of 16 bits. */
function high(coefficient: number): number {
  return (coefficient + 0x8000) >> 16
}
