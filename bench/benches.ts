/** Every benchmark, in the order of docs/benchmarks.md. */
import type { Bench } from './bench.js'
import { peersBench } from './peers.js'
import { rerankBench } from './rerank.js'
import { trainingBench } from './training.js'

export const benches: readonly Bench<unknown>[] = [
  peersBench,
  rerankBench,
  trainingBench,
]
