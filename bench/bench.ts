/** A benchmark: a run that returns figures, and the section of docs/benchmarks.md made of them. */
import type { TopLevelSpec } from 'vega-lite'

/**
 * `smoke` takes seconds and shows that the benchmark runs; `quick` takes a minute; the page shows
 * `full`.
 */
export type Scale = 'smoke' | 'quick' | 'full'

export interface Bench<Figures> {
  /** Name of its file of results. */
  name: string
  /** Title of its section. */
  title: string
  /**
   * Returns plain JSON. Figures and their baseline come from alternating rounds of one run.
   * @throws BenchSkipped
   */
  run(scale: Scale): Promise<Figures>
  /** The section's Markdown, without its heading. */
  page(figures: Figures): string
  /** Plots by name; the section shows them as `benchmarks/NAME.png`. */
  plots?(figures: Figures): Record<string, TopLevelSpec>
}

/** The benchmark cannot run here; the message says what is missing. */
export class BenchSkipped extends Error {
  override readonly name = 'BenchSkipped'
}
