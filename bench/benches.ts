/** Every benchmark, in the order of docs/benchmarks.md. */
import type { Bench } from './bench.js'
import { enduranceBench } from './endurance.js'
import { identicalBench } from './identical.js'
import { indexingBench } from './indexing.js'
import { languagesBench } from './languages.js'
import { peersBench } from './peers.js'
import { indexEnginesBench } from './index-engines.js'
import { indexSizeBench } from './index-size.js'
import { rerankBench } from './rerank.js'
import { saturationBench } from './saturation.js'
import { startBench } from './start.js'
import { trainingBench } from './training.js'

export const benches: readonly Bench<unknown>[] = [
  peersBench,
  saturationBench,
  indexingBench,
  startBench,
  enduranceBench,
  indexSizeBench,
  indexEnginesBench,
  identicalBench,
  rerankBench,
  languagesBench,
  trainingBench,
]
