/**
 * The index from ten thousand items to a million: cost of building, loading, memory and searches.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openModels } from '../src/model/open.js'
import type { VectorIndex } from '../src/vector-index/vector-index.js'
import type { Bench, Scale } from './bench.js'
import {
  buildSnapshots,
  coreSecondsOfBuild,
  graphBytes,
  openSnapshot,
  snapshotOf,
} from './index-size/build.js'
import {
  alternating,
  CANDIDATES,
  exactNearest,
  longestStandstill,
  recallOf,
  type Latency,
  type Search,
} from './index-size/measure.js'
import { page, plots, type Figures, type Size } from './index-size/page.js'
import { benchCache, BUNDLE, embeddingsFor, row } from './vectors.js'

const SCALES = {
  smoke: { sizes: [600, 1200], queries: 20, rounds: 1, searches: 20, texts: 0 },
  quick: { sizes: [10_000, 20_000, 50_000], queries: 100, rounds: 3, searches: 200, texts: 20 },
  full: {
    sizes: [10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000],
    queries: 200,
    rounds: 5,
    searches: 400,
    texts: 60,
  },
} as const
/**
 * Links of a node: twice M on the lowest level, and M on each level above, which one in M nodes
 * reaches.
 */
const M = 16

export const indexSizeBench: Bench<Figures> = {
  name: 'index-size',
  title: 'The index, from ten thousand items to a million',
  run,
  page,
  plots,
}

async function run(scale: Scale): Promise<Figures> {
  const { sizes, queries: count, rounds, searches, texts } = SCALES[scale]
  const real = await embeddingsFor(scale)
  const { dim } = real.photos
  const folder =
    scale === 'smoke'
      ? await mkdtemp(join(tmpdir(), 'tandem-index-size-'))
      : join(benchCache, 'index')
  await buildSnapshots(folder, real.photos, sizes)
  const queries = Array.from({ length: count }, (_, at) => row(real.captions, at))
  const truth = exactNearest(real.photos, queries, sizes)
  const encoder =
    texts === 0
      ? null
      : await openModels({ folder: BUNDLE, inferenceThreads: 0, maxImagePixels: 1e7 })
  const smallest = await openSnapshot(snapshotOf(folder, sizes[0]), dim)
  const measured: Size[] = []
  try {
    const bare =
      (index: VectorIndex): Search =>
      (at) =>
        index.search(queries[at % count] as Float32Array, CANDIDATES)
    const fromText =
      (index: VectorIndex): Search =>
      async (at) => {
        const { encoded } = await (encoder as NonNullable<typeof encoder>).encodeTexts([
          `two dogs run through the snow beside child number ${at}`,
        ])
        return index.search(encoded[0]?.embedding as Float32Array, CANDIDATES)
      }
    for (const items of sizes) {
      process.stderr.write(`${items} items\n`)
      const before = graphBytes()
      const begun = performance.now()
      const [standstill, index] = await longestStandstill(() =>
        openSnapshot(snapshotOf(folder, items), dim),
      )
      try {
        const load = (performance.now() - begun) / 1000
        const recall = [
          await recallOf(index, queries, truth.get(items) ?? [], 10),
          await recallOf(index, queries, truth.get(items) ?? [], CANDIDATES),
        ]
        const alone = await alternating(rounds, searches, [bare(smallest), bare(index)])
        const [whileSearching, whole] = await longestStandstill(async () =>
          encoder === null
            ? null
            : alternating(rounds, texts, [fromText(smallest), fromText(index)]),
        )
        measured.push({
          items,
          core_seconds: coreSecondsOfBuild(folder, items),
          load_seconds: load,
          bytes: graphBytes() - before,
          implied_bytes: Math.round(items * 4 * (dim + 2 * M + M / (M - 1))),
          recall_at_10: recall[0] as number,
          recall_at_64: recall[1] as number,
          index: compared(alone),
          search: whole === null ? null : compared(whole),
          standstill_loading_ms: standstill,
          standstill_searching_ms: whileSearching,
        })
      } finally {
        await index.close()
      }
    }
  } finally {
    await smallest.close()
    await encoder?.close()
    if (scale === 'smoke') await rm(folder, { recursive: true })
  }
  return { dim, m: M, candidates: CANDIDATES, queries: count, sizes: measured }
}

function compared([smallest, own]: readonly [Latency, Latency]): Size['index'] {
  return { ...own, p50_ratio: own.p50 / smallest.p50, p99_ratio: own.p99 / smallest.p99 }
}
