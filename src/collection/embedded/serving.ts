import type { Generation } from './generation.js'

/** Keeps a generation open until it is disposed of. */
export interface GenerationLease extends Disposable {
  readonly generation: Generation
}

/** The serving generation, with a count of leases for each generation that has any. */
export class Serving {
  #generation: Generation
  readonly #leases = new Map<Generation, number>()
  /** Resolved when the last lease of the generation ends. */
  readonly #onIdle = new Map<Generation, () => void>()

  constructor(generation: Generation) {
    this.#generation = generation
  }

  /** The current generation. Code that awaits while using it has to `acquire` it. */
  get generation(): Generation {
    return this.#generation
  }

  acquire(): GenerationLease {
    const generation = this.#generation
    this.#leases.set(generation, (this.#leases.get(generation) ?? 0) + 1)
    return { generation, [Symbol.dispose]: () => this.#release(generation) }
  }

  /** Later leases are of `generation`; present ones keep theirs. */
  replace(generation: Generation): void {
    this.#generation = generation
  }

  /** Resolves when `generation` has no lease. It must not be the current one. */
  async idle(generation: Generation): Promise<void> {
    if (!this.#leases.has(generation)) return
    await new Promise<void>((resolve) => this.#onIdle.set(generation, resolve))
  }

  #release(generation: Generation): void {
    const left = (this.#leases.get(generation) ?? 0) - 1
    if (left > 0) {
      this.#leases.set(generation, left)
      return
    }
    this.#leases.delete(generation)
    this.#onIdle.get(generation)?.()
    this.#onIdle.delete(generation)
  }
}
