/** A pause that doubles with each failure, up to a maximum. Milliseconds. */
export class Backoff {
  readonly #firstMs: number
  readonly #maxMs: number
  #ms: number

  constructor(firstMs: number, maxMs = Infinity) {
    this.#firstMs = firstMs
    this.#maxMs = maxMs
    this.#ms = firstMs
  }

  /** The pause before the next attempt. */
  get ms(): number {
    return this.#ms
  }

  /** The pause times a random factor from 0.5 to 1.5, so that clients do not retry together. */
  get jitteredMs(): number {
    return this.#ms * (0.5 + Math.random())
  }

  double(): void {
    this.#ms = Math.min(this.#ms * 2, this.#maxMs)
  }

  reset(): void {
    this.#ms = this.#firstMs
  }
}
