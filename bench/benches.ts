/** Every benchmark, in the order of docs/benchmarks.md. */
import type { Bench } from './bench.js'

export const benches: readonly Bench<unknown>[] = []
