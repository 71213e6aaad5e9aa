/** Embeddings row after row, compared with a query one and all. */
import { reserve, type Memory } from '../wasm.js'
import { openDotProducts, paddedBytes, type DotProducts } from './dot-products.js'

/** Rows compared in one go. */
const BLOCK = 2048
const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT

/** In its memory: the query, the products of a block, the rows. */
export class PackedRows {
  readonly #dim: number
  readonly #rowBytes: number
  readonly #memory: Memory
  readonly #dots: DotProducts
  #values: Float32Array
  #count = 0

  constructor(dim: number) {
    this.#dim = dim
    this.#rowBytes = paddedBytes(dim)
    const { memory, functions } = openDotProducts(this.#offset(0))
    this.#memory = memory
    this.#dots = functions.dots
    this.#values = new Float32Array(this.#memory.buffer)
  }

  /** Rows, empty ones included. */
  get count(): number {
    return this.#count
  }

  /** @param row - one that is there, or the next */
  set(row: number, embedding: Float32Array): void {
    this.#count = Math.max(this.#count, row + 1)
    const needed = this.#offset(this.#count)
    const held = this.#memory.buffer.byteLength
    if (needed > held) {
      // An eighth more than needed, so that it does not happen at each row.
      reserve(this.#memory, needed + held / 8)
      this.#values = new Float32Array(this.#memory.buffer)
    }
    this.#values.set(embedding, this.#offset(row) / FLOAT_BYTES)
  }

  /** What is empty has no similarity to anything: NaN. */
  empty(row: number): void {
    this.#row(row).fill(Number.NaN)
  }

  /** Puts the row `from` also where `to` is. */
  copy(from: number, to: number): void {
    this.#row(to).set(this.#row(from))
  }

  /** Forgets the rows from `count` on. */
  cut(count: number): void {
    this.#count = count
  }

  /**
   * Tells `look` how similar `query` is to the rows, one after the other, up to the row `count`.
   */
  compare(
    query: Float32Array,
    look: (row: number, similarity: number) => void,
    count = this.#count,
  ): void {
    this.#values.set(query, 0)
    const products = this.#values.subarray(
      this.#rowBytes / FLOAT_BYTES,
      this.#rowBytes / FLOAT_BYTES + BLOCK,
    )
    for (let from = 0; from < count; from += BLOCK) {
      const length = Math.min(BLOCK, count - from)
      this.#dots(0, this.#offset(from), length, this.#rowBytes, this.#rowBytes)
      for (let at = 0; at < length; at += 1) look(from + at, products[at] as number)
    }
  }

  /** Of one row. */
  similarity(query: Float32Array, row: number): number {
    this.#values.set(query, 0)
    this.#dots(0, this.#offset(row), 1, this.#rowBytes, this.#rowBytes)
    return this.#values[this.#rowBytes / FLOAT_BYTES] as number
  }

  #row(row: number): Float32Array {
    const start = this.#offset(row) / FLOAT_BYTES
    return this.#values.subarray(start, start + this.#dim)
  }

  /** Where a row begins, in bytes. */
  #offset(row: number): number {
    return this.#rowBytes + BLOCK * FLOAT_BYTES + row * this.#rowBytes
  }
}
