/**
 * Graphs of hnswlib and usearch at the same recall. docs/adr/0004-vector-engine.md decides by these
 * figures.
 */
import { WorkerProcess } from '../src/worker/worker-process.js'
import { median } from '../test/soak/figures.js'
import type { Bench, Scale } from './bench.js'
import type { Commands } from './index-engines/engine-worker.js'
import { engines, type EngineName } from './index-engines/engines.js'
import { CANDIDATES, exactNearest } from './index-size/measure.js'
import { embeddingsFor, row } from './vectors.js'

interface Measured {
  name: EngineName
  build_core_seconds: number
  bytes: number
  /** The smallest tried ef that reaches the target recall; null if none does. */
  ef: number | null
  recall: number
  /** Core-microseconds. */
  search_us: number
  /** Number found of 300 equal embeddings. */
  equal_found: number
  /** Whether 1,600 random replacements and removals end. */
  survives_churn: boolean
}

interface Figures {
  items: number
  dim: number
  candidates: number
  target: number
  engines: Measured[]
}

/** Churn takes a tenth of a second; an engine that hangs never ends it. */
const SCALES = {
  smoke: { items: 600, queries: 20, rounds: 1, churnLimitMs: 1000 },
  quick: { items: 20_000, queries: 200, rounds: 3, churnLimitMs: 15_000 },
  full: { items: 50_000, queries: 500, rounds: 7, churnLimitMs: 15_000 },
} as const
const TARGET = 0.99
const WIDTHS = [64, 72, 80, 90, 100, 112, 128, 144, 160, 180, 200, 256, 320]

export const indexEnginesBench: Bench<Figures> = {
  name: 'index-engines',
  title: 'Engines of the index',
  run,
  page,
}

async function run(scale: Scale): Promise<Figures> {
  const { items, queries: count, rounds, churnLimitMs } = SCALES[scale]
  const { photos, captions } = await embeddingsFor(scale)
  const queries = Array.from({ length: count }, (_, at) => row(captions, at))
  const truth = exactNearest(photos, queries, [items]).get(items) ?? []
  const workers = await Promise.all(engines.map(openWorker))
  try {
    const measured: Measured[] = []
    for (const [at, name] of engines.entries()) {
      process.stderr.write(`${name}\n`)
      const worker = workers[at] as WorkerProcess<Commands>
      const { seconds, bytes } = await worker.call('build', { name, scale, items })
      const found = { ef: null as number | null, recall: 0 }
      for (const ef of WIDTHS) {
        found.recall = await worker.call('recall', { truth, k: CANDIDATES, ef })
        if (found.recall < TARGET) continue
        found.ef = ef
        break
      }
      measured.push({
        name,
        build_core_seconds: seconds,
        bytes,
        ...found,
        search_us: 0,
        equal_found: 0,
        survives_churn: false,
      })
    }
    const spent = measured.map((): number[] => [])
    for (let round = 0; round < rounds; round += 1) {
      for (const [at, { ef }] of measured.entries()) {
        const ask = { queries: count, k: CANDIDATES, ef: ef ?? (WIDTHS.at(-1) as number) }
        spent[at]?.push(await (workers[at] as WorkerProcess<Commands>).call('search', ask))
      }
    }
    measured.forEach((one, at) => (one.search_us = median(spent[at] ?? [])))
    for (const [at, one] of measured.entries()) {
      const worker = workers[at] as WorkerProcess<Commands>
      one.equal_found = await worker.call('equal', { name: one.name })
      one.survives_churn = await worker.call('churn', { name: one.name }, churnLimitMs).then(
        () => true,
        () => false,
      )
    }
    return { items, dim: photos.dim, candidates: CANDIDATES, target: TARGET, engines: measured }
  } finally {
    await Promise.all(workers.map((worker) => worker.close()))
  }
}

function openWorker(name: EngineName): Promise<WorkerProcess<Commands>> {
  const module = new URL('./index-engines/engine-worker.js', import.meta.url)
  return WorkerProcess.start<Commands>({ name, module, code: 'index_unavailable', subject: name })
}

function page({ items, dim, candidates, target, engines: measured }: Figures): string {
  const [baseline] = measured as [Measured]
  const line = (one: Measured): string => {
    const cells = [
      one.name,
      one.build_core_seconds.toFixed(1),
      (baseline.build_core_seconds / one.build_core_seconds).toFixed(2),
      `${Math.round(one.bytes / 2 ** 20)} MiB`,
      one.ef === null ? `not with ${WIDTHS.at(-1)}` : String(one.ef),
      one.recall.toFixed(4),
      `${Math.round(one.search_us)} µs`,
      (baseline.search_us / one.search_us).toFixed(2),
      String(one.equal_found),
      one.survives_churn ? 'yes' : 'no',
    ]
    return `| ${cells.join(' | ')} |`
  }
  return `${items.toLocaleString('en')} embeddings of photos as above (${dim} values), M 16 and efConstruction 200 each, one thread; searched for
${candidates} candidates with the narrowest ef that finds ${target} of the exact nearest. Times are of the core. usearch keeps its
vectors in the precision that is named, and what it finds is scored again by float32 rows kept beside it, which are in its
memory here. Churn is 1,600 replacements and removals at random: "no" means that it had not ended after 15 s. What follows from it is in [a decision](adr/0004-vector-engine.md).

| engine | built, core-seconds | times as fast | memory | ef | recall@${candidates} | search | times as fast | of 300 equal, found | survives churn |
|---|---|---|---|---|---|---|---|---|---|
${measured.map(line).join('\n')}`
}
