/**
 * What a benchmark is: a run that gives figures, and the section of docs/benchmarks.md that they
 * make.
 */
import type { TopLevelSpec } from 'vega-lite'

/**
 * `smoke` takes seconds and only shows that it still runs; `quick` takes a minute; `full` is what
 * the page shows.
 */
export type Scale = 'smoke' | 'quick' | 'full'

export interface Bench<Figures> {
  /** Of its file of results. */
  name: string
  /** Of its section. */
  title: string
  /**
   * Plain JSON. A figure stands beside that of a baseline of the same run, in rounds that
   * alternate.
   * @throws BenchSkipped
   */
  run(scale: Scale): Promise<Figures>
  /** The section's Markdown, without its heading. */
  page(figures: Figures): string
  /** By the name of the image, which the section shows as `benchmarks/NAME.png`. */
  plots?(figures: Figures): Record<string, TopLevelSpec>
}

/** Where a benchmark cannot run here: it says what is missing. */
export class BenchSkipped extends Error {
  override readonly name = 'BenchSkipped'
}
