/** Milliseconds by stage: encode, recall, fetch, rerank, total, and the stages inside the model. */
export type Timings = Record<string, number>

/** What the model reports may lack stages. */
type StageTimings = Readonly<Partial<Timings>>

/** The result of a stage and the time it took. */
export interface Timed<Value> {
  value: Value
  /** On the clock of `performance.now()`. */
  begun: number
  timings: Timings
}

/** Gets each stage when it ends; the first of the timings is its own. */
type OnStage = (begun: number, timings: Timings) => void

/** Runs a stage; the stages measured inside it come after it in the timings. */
export async function timed<Value>(
  stage: string,
  run: () => Promise<Value>,
  inside: (value: Value) => StageTimings = () => ({}),
): Promise<Timed<Value>> {
  const begun = performance.now()
  const value = await run()
  return {
    value,
    begun,
    timings: { [stage]: performance.now() - begun, ...inside(value) } as Timings,
  }
}

/** Adds up the stages of one request. */
export class StageClock {
  readonly #begun = performance.now()
  readonly #stages: Timings = {}
  readonly #onStage: OnStage | undefined

  constructor(onStage?: OnStage) {
    this.#onStage = onStage
  }

  /** Adds the timings of a stage, which may have run before, and returns its value. */
  take<Value>({ value, begun, timings }: Timed<Value>): Value {
    this.#onStage?.(begun, timings)
    for (const stage in timings)
      this.#stages[stage] = (this.#stages[stage] ?? 0) + (timings[stage] ?? 0)
    return value
  }

  /** The stages so far, and `total` since the clock was made; rounded to microseconds. */
  read(): Timings {
    const stages = { ...this.#stages, total: performance.now() - this.#begun }
    return Object.fromEntries(
      Object.entries(stages).map(([stage, ms]) => [stage, Math.round(ms * 1000) / 1000]),
    )
  }
}

/** The timings of parallel work: the longest of each stage. */
export function longest(timings: readonly StageTimings[]): Timings {
  const stages: Timings = {}
  for (const [stage, ms] of timings.flatMap((each) => Object.entries(each))) {
    stages[stage] = Math.max(stages[stage] ?? 0, ms ?? 0)
  }
  return stages
}
