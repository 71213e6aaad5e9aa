/** Embeddings in rows, compared with a query by dot products in WebAssembly. */
import { compile, reserve, type Memory } from '../wasm.js'

/** `dot-products.wat`, assembled; a test compares the two. SIMD is 5 times as fast as a loop. */
export const ASSEMBLED =
  'AGFzbQEAAAABCQFgBX9/f39/AAIOAQJqcwZtZW1vcnkCAAEDAgEABwgBBGRvdHMAAAqiAgGfAgICfwR7AkAgAkUNAANAIAAhBiABIANqIQX9DAAAAAAAAAAA' +
  'AAAAAAAAAAAhB/0MAAAAAAAAAAAAAAAAAAAAACEI/QwAAAAAAAAAAAAAAAAAAAAAIQn9DAAAAAAAAAAAAAAAAAAAAAAhCgNAIAcgBv0ABAAgAf0ABAD95gH9' +
  '5AEhByAIIAb9AAQQIAH9AAQQ/eYB/eQBIQggCSAG/QAEICAB/QAEIP3mAf3kASEJIAogBv0ABDAgAf0ABDD95gH95AEhCiAGQcAAaiEGIAFBwABqIQEgASAF' +
  'SQ0ACyAHIAj95AEgCSAK/eQB/eQBIQcgBCAH/R8AIAf9HwGSIAf9HwIgB/0fA5KSOAIAIARBBGohBCACQQFrIQIgAg0ACwsL'

/**
 * Offsets are in bytes from the start of the memory: `query`, `row` (the first of `count`) and
 * `out` (32-bit floats). A row has `bytes` bytes, a multiple of `ROW_MULTIPLE`, padded with zeros.
 */
type DotProducts = (query: number, row: number, count: number, bytes: number, out: number) => void

const ROW_MULTIPLE = 64
const openDotProducts = compile<{ dots: DotProducts }>(ASSEMBLED)

/** Rows compared in one call. */
const BLOCK = 2048
const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT

/** Memory layout: the query, the products of a block, the rows. */
export class PackedRows {
  readonly #dim: number
  readonly #rowBytes: number
  readonly #memory: Memory
  readonly #dots: DotProducts
  #values: Float32Array
  #count = 0

  constructor(dim: number) {
    this.#dim = dim
    this.#rowBytes = Math.ceil((dim * FLOAT_BYTES) / ROW_MULTIPLE) * ROW_MULTIPLE
    const { memory, functions } = openDotProducts(this.#offset(0))
    this.#memory = memory
    this.#dots = functions.dots
    this.#values = new Float32Array(this.#memory.buffer)
  }

  /** Number of rows, with the empty ones. */
  get count(): number {
    return this.#count
  }

  /** @param row - an existing row, or the next */
  set(row: number, embedding: Float32Array): void {
    this.#count = Math.max(this.#count, row + 1)
    const needed = this.#offset(this.#count)
    const size = this.#memory.buffer.byteLength
    if (needed > size) {
      // An eighth more, so that not every row grows the memory.
      reserve(this.#memory, needed + size / 8)
      this.#values = new Float32Array(this.#memory.buffer)
    }
    this.#values.set(embedding, this.#offset(row) / FLOAT_BYTES)
  }

  /** The similarities of an empty row are NaN. */
  empty(row: number): void {
    this.#row(row).fill(Number.NaN)
  }

  /** Copies a row over another. */
  copy(from: number, to: number): void {
    this.#row(to).set(this.#row(from))
  }

  /** Removes the rows from `count` on. */
  cut(count: number): void {
    this.#count = count
  }

  /** The embedding of a row, as it is until the next change. */
  get(row: number): Float32Array {
    return this.#row(row)
  }

  /** Calls `each` with the similarity of `query` to each row of the range, by default to all. */
  compare(
    query: Float32Array,
    each: (row: number, similarity: number) => void,
    { from: first = 0, to = this.#count }: { from?: number; to?: number } = {},
  ): void {
    this.#values.set(query, 0)
    const products = this.#values.subarray(
      this.#rowBytes / FLOAT_BYTES,
      this.#rowBytes / FLOAT_BYTES + BLOCK,
    )
    for (let from = first; from < to; from += BLOCK) {
      const length = Math.min(BLOCK, to - from)
      this.#dots(0, this.#offset(from), length, this.#rowBytes, this.#rowBytes)
      for (let at = 0; at < length; at += 1) each(from + at, products[at] as number)
    }
  }

  /** The similarity of `query` to one row. */
  similarity(query: Float32Array, row: number): number {
    this.#values.set(query, 0)
    this.#dots(0, this.#offset(row), 1, this.#rowBytes, this.#rowBytes)
    return this.#values[this.#rowBytes / FLOAT_BYTES] as number
  }

  #row(row: number): Float32Array {
    const start = this.#offset(row) / FLOAT_BYTES
    return this.#values.subarray(start, start + this.#dim)
  }

  /** Start of a row in bytes. */
  #offset(row: number): number {
    return this.#rowBytes + BLOCK * FLOAT_BYTES + row * this.#rowBytes
  }
}
