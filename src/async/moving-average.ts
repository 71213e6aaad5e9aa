/** Exponential moving average. */
export class MovingAverage {
  readonly #memory: number
  #value: number | undefined

  /** @param memory - weight in [0, 1) of the samples so far; 0.9 averages the last ten or so */
  constructor(memory: number, initial?: number) {
    this.#memory = memory
    this.#value = initial
  }

  /** 0 before the first sample where there is no initial value. */
  get value(): number {
    return this.#value ?? 0
  }

  add(sample: number): void {
    const { value } = this
    this.#value =
      this.#value === undefined ? sample : value * this.#memory + sample * (1 - this.#memory)
  }
}
