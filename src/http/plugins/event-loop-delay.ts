/**
 * How late the event loop of this process runs what is due: what every request waits for, whatever
 * it asks.
 */
import { Histogram, type Registry } from 'prom-client'

const EVERY_MS = 20
const SECONDS = [0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]

/**
 * Samples the delay fifty times a second into `tandem_event_loop_delay_seconds`. A delay that
 * outlasts the next samples counts as those, too, so that one second of standstill is not one
 * sample in a thousand but fifty.
 *
 * @returns what ends it
 */
export function measureEventLoopDelay(registry: Registry): () => void {
  const delays = new Histogram({
    name: 'tandem_event_loop_delay_seconds',
    help: 'How late the event loop ran what was due',
    buckets: SECONDS,
    registers: [registry],
  })
  let due = performance.now() + EVERY_MS
  const timer = setInterval(() => {
    const now = performance.now()
    for (let delay = Math.max(0, now - due); delay >= 0; delay -= EVERY_MS)
      delays.observe(delay / 1000)
    due = now + EVERY_MS
  }, EVERY_MS)
  timer.unref()
  return () => clearInterval(timer)
}
