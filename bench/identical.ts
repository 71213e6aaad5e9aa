/**
 * Recall of the index where many items have one embedding, or nearly one: the same image stored
 * many times. After the items are stored, after a restart, and after the copies are removed.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ExactIndex } from '../src/vector-index/exact.js'
import { HnswIndex } from '../src/vector-index/hnsw.js'
import type { VectorIndex } from '../src/vector-index/vector-index.js'
import type { Bench, Scale } from './bench.js'

interface Row {
  copies: number
  /** Whether they differ as photos do that were saved at several qualities (cosine .99). */
  near: boolean
  stored: number
  restarted: number
  removed: number
}

export interface IdenticalFigures {
  items: number
  dim: number
  searches: number
  rows: Row[]
}

const SIZES: Record<Scale, { items: number; copies: number[]; searches: number }> = {
  smoke: { items: 4800, copies: [900], searches: 20 },
  quick: { items: 10_000, copies: [3000, 400, 0], searches: 100 },
  full: { items: 40_000, copies: [30_000, 3000, 400, 0], searches: 200 },
}
const K = 10
const STEP = 1000
const CLUSTERS = 60
/** Length of the difference of near copies, of 1: their cosine to each other is about .99. */
const NEAR = 0.1
/** Similarities of one pair, summed in another order, and those of a copy. */
const TOLERANCE = 3e-5
interface Entry {
  id: string
  embedding: Float32Array
}

/** Embeddings in clusters, as those of images are. Seeded. */
function embeddings(dim: number) {
  let state = 1
  const uniform = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  const normal = (): number =>
    Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())
  const centres = Array.from({ length: CLUSTERS }, () => Float32Array.from({ length: dim }, normal))
  const unit = (values: Float32Array): Float32Array => {
    const length = Math.hypot(...values)
    return values.map((value) => value / length)
  }
  return {
    next: (): Float32Array => {
      const centre = centres[Math.floor(uniform() * CLUSTERS)] as Float32Array
      return unit(centre.map((value) => value + normal()))
    },
    near: (embedding: Float32Array): Float32Array => {
      const scale = NEAR / Math.sqrt(2 * dim)
      return unit(embedding.map((value) => value + scale * normal()))
    },
  }
}

async function addAll(indexes: readonly VectorIndex[], entries: readonly Entry[]): Promise<void> {
  for (let from = 0; from < entries.length; from += STEP)
    for (const index of indexes)
      await index.upsert(entries.slice(from, from + STEP), index.position + 1)
}

/** Share of the exact nearest that are found; of equal ones any counts. */
async function recallOf(
  index: VectorIndex,
  exact: VectorIndex,
  queries: readonly Float32Array[],
): Promise<number> {
  let found = 0
  let all = 0
  for (const query of queries) {
    const truth = await exact.search(query, K)
    const worst = (truth.at(-1)?.similarity ?? 0) - TOLERANCE
    const hits = await index.search(query, K)
    all += truth.length
    found += hits.filter(({ similarity }) => similarity >= worst).length
  }
  return found / all
}

async function rowOf(
  { items, searches }: { items: number; searches: number },
  dim: number,
  copies: number,
  near: boolean,
): Promise<Row> {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-identical-'))
  const options = { folder, dim, fingerprint: 'f', storeIdentity: 's' }
  const exact = new ExactIndex(dim)
  let index = await HnswIndex.open(options)
  try {
    const source = embeddings(dim)
    const image = source.next()
    const queries = Array.from({ length: searches }, () => source.next())
    const others = Array.from({ length: items - copies }, (_, at) => ({
      id: `other-${at}`,
      embedding: source.next(),
    }))
    const same = Array.from({ length: copies }, (_, at) => ({
      id: `copy-${at}`,
      embedding: near ? source.near(image) : image,
    }))
    // Items before and after the copies, which are in one block: the worst order.
    const half = others.length >> 1
    await addAll([index, exact], [...others.slice(0, half), ...same, ...others.slice(half)])
    const around = queries
      .slice(0, searches / 10)
      .map((query) => query.map((value, at) => 0.5 * value + (image[at] as number)))
    const measured = (): Promise<number> => recallOf(index, exact, [...queries, ...around])
    const stored = await measured()
    await index.save()
    await index.close()
    index = await HnswIndex.open(options)
    const restarted = await measured()
    const ids = same.map(({ id }) => id)
    await index.remove(ids, index.position + 1)
    await exact.remove(ids, exact.position + 1)
    return { copies, near, stored, restarted, removed: await measured() }
  } finally {
    await index.close()
    await rm(folder, { recursive: true, force: true })
  }
}

export const identicalBench: Bench<IdenticalFigures> = {
  name: 'identical',
  title: 'Identical images',
  run: async (scale) => {
    const { copies, ...size } = SIZES[scale]
    const dim = 256
    const rows: Row[] = []
    const measure = async (count: number, near: boolean): Promise<void> => {
      rows.push(await rowOf(size, dim, count, near))
      process.stderr.write(`${JSON.stringify(rows.at(-1))}\n`)
    }
    for (const near of [false, true])
      for (const count of copies) if (count > 0 || !near) await measure(count, near)
    return { items: size.items, dim, searches: size.searches, rows }
  },
  page: ({ items, dim, searches, rows }) => {
    const share = (value: number): string => value.toFixed(4)
    const table = [
      '| copies | stored | after a restart | after their removal |',
      '| --- | --- | --- | --- |',
      ...rows.map(
        ({ copies, near, stored, restarted, removed }) =>
          `| ${copies}${near ? ', near' : ''} | ${share(stored)} | ${share(restarted)} | ${share(removed)} |`,
      ),
    ]
    return (
      `Recall@${K} against exact search among ${items} random embeddings in clusters (${dim} values), some of which are copies of one: ` +
      `${searches} searches, and ${searches / 10} near the copies, by an index with the settings of the service, which has not measured its recall yet. ` +
      `Near copies have a cosine of about .99 to each other.\n\n${table.join('\n')}`
    )
  },
}
