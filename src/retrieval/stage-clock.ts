/** Milliseconds by stage: encode, recall, fetch, rerank, total, and the stages inside the model. */
export type Timings = Record<string, number>

/** Collects how long each stage of one request took. Stages that run again add up. */
export class StageClock {
  readonly #begun = performance.now()
  readonly #stages: Timings = {}

  /** Runs one stage and counts its time, also when it fails. */
  async time<Value>(stage: string, run: () => Value | Promise<Value>): Promise<Value> {
    const begun = performance.now()
    // Its place comes before those of the stages inside it.
    this.#add(stage, 0)
    try {
      return await run()
    } finally {
      this.#add(stage, performance.now() - begun)
    }
  }

  /** Adds timings that an inner room measured. */
  add(timings: Readonly<Partial<Timings>>): void {
    for (const stage in timings) this.#add(stage, timings[stage] ?? 0)
  }

  /** The stages so far, and `total` since the clock was made; to the microsecond. */
  read(): Timings {
    const read: Timings = {}
    for (const stage in this.#stages) read[stage] = rounded(this.#stages[stage] as number)
    read['total'] = rounded(performance.now() - this.#begun)
    return read
  }

  #add(stage: string, ms: number): void {
    this.#stages[stage] = (this.#stages[stage] ?? 0) + ms
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000
}

/** The timings of work done side by side: of each stage the longest. */
export function longest(timings: readonly Readonly<Partial<Timings>>[]): Timings {
  const stages: Timings = {}
  for (const [stage, ms] of timings.flatMap((one) => Object.entries(one))) {
    stages[stage] = Math.max(stages[stage] ?? 0, ms ?? 0)
  }
  return stages
}
