/** Delays of a service's event loop between two readings of its metrics. */
import { HistogramChange } from '../test/soak/figures.js'

export interface EventLoop {
  samples: number
  /** Delays above 20 ms. */
  late: number
  /**
   * Upper bound of all delays in milliseconds, as the histogram has it; null beyond its last bound.
   */
  worst_below: number | null
}

export function eventLoopBetween(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): EventLoop {
  const delays = new HistogramChange('tandem_event_loop_delay_seconds', before, after)
  const late = Math.round((1 - delays.shareUpTo(0.02)) * delays.count)
  const worst = delays.quantile(1)
  return { samples: delays.count, late, worst_below: Number.isFinite(worst) ? worst * 1000 : null }
}

export function eventLoopSentence({ samples, late, worst_below: worst }: EventLoop): string {
  const bound = worst === null ? 'one was longer than 5 s' : `none was longer than ${worst} ms`
  return `Of ${samples} samples of the event loop's delay ${late} were above 20 ms; ${bound}.`
}
