const MIN_CAPACITY = 16_384
/** Of a known length. What is not written yet takes addresses, but no memory. */
const GROWTH = 8

/** Joins pieces as they come. A list of them would need 100 times the memory of tiny pieces. */
export class GrowingBuffer {
  readonly #expected: number
  #buffer = Buffer.alloc(0)
  #length = 0

  /** @param expected - the length where it is known; nothing is allocated for it in advance */
  constructor(expected = 0) {
    this.#expected = expected
  }

  get length(): number {
    return this.#length
  }

  add(piece: Uint8Array): void {
    const length = this.#length + piece.length
    if (length > this.#buffer.length) this.#grow(length)
    this.#buffer.set(piece, this.#length)
    this.#length = length
  }

  /** All pieces so far; later ones may change it. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  #grow(length: number): void {
    const isExpected = length <= this.#expected
    const grown = Buffer.allocUnsafeSlow(
      isExpected
        ? Math.min(GROWTH * length, this.#expected)
        : Math.max(length, 2 * this.#buffer.length, MIN_CAPACITY),
    )
    grown.set(this.bytes())
    this.#buffer = grown
  }
}
