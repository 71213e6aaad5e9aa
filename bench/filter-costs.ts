/**
 * Costs of the parts of a filtered recall in microseconds: `node --import tsx
 * bench/filter-costs.ts [items]`. The rule of src/collection/embedded/filtered-recall.ts uses their
 * ratios.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { filteredRecall } from '../src/collection/embedded/filtered-recall.js'
import { FilteredSets } from '../src/collection/embedded/filtered-sets.js'
import { openItemStore } from '../src/item-store/open.js'
import { cosine } from '../src/vector-index/normalise.js'
import { openVectorIndex } from '../src/vector-index/open.js'
import type { Filter } from '../src/filter/filter.js'
import { parseFilter } from '../src/filter/parse.js'
import { testOf } from '../src/filter/matches.js'
import { randomEmbeddings } from '../test/support/random-embeddings.js'

const DIM = 256
const TOKEN_BYTES = 50 * 192
const ROUNDS = 20
const CANDIDATES = 64
const items = Number(process.argv[2] ?? 20_000)

const folder = await mkdtemp(join(tmpdir(), 'tandem-filter-costs-'))
const store = await openItemStore({
  folder: join(folder, 'items'),
  fingerprint: '0123456789abcdef',
})
const index = await openVectorIndex({
  kind: 'hnsw',
  folder: join(folder, 'index'),
  dim: DIM,
  fingerprint: '0123456789abcdef',
  storeIdentity: store.identity,
})
const embeddings = randomEmbeddings(items, DIM)
const idOf = (at: number): string => `2024/holidays/photo-${at}.jpg`
const image = { bytes: new Uint8Array(1), mime: 'image/jpeg', width: 512, height: 384 }
for (let start = 0; start < items; start += 1000) {
  const some = embeddings
    .slice(start, start + 1000)
    .map((embedding, at) => ({ id: idOf(start + at), embedding }))
  const payloadOf = (at: number) => ({
    title: 'On the beach',
    album: 'holidays',
    number: at,
    tags: ['sea', 'sand'],
    path: 'a/b/c.jpg',
  })
  const { position } = await store.put(
    some.map((one, at) => ({
      ...one,
      payload: payloadOf(start + at),
      image,
      imageTokens: new Int8Array(TOKEN_BYTES),
    })),
  )
  await index.upsert(some, position)
}

/** Median microseconds of `work` over the rounds, divided by `count`. */
async function each(count: number, work: (round: number) => unknown): Promise<number> {
  const spent: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    const begun = performance.now()
    await work(round)
    spent.push(performance.now() - begun)
  }
  return (1000 * (spent.sort((a, b) => a - b)[ROUNDS / 2] as number)) / count
}

const query = (round: number): Float32Array => embeddings[round * 7] as Float32Array
const row = (what: string, value: number): void =>
  console.log(`${what.padEnd(52)} ${value.toFixed(2).padStart(8)}`)
const test = testOf(
  parseFilter({
    must: [
      { key: 'album', match: 'none' },
      { key: 'number', range: { gte: 2020 } },
    ],
  }),
)

console.log(`microseconds, ${items} items of ${DIM} dimensions`)
for (const depth of [128, 512, 2048, 8192].filter((one) => one < items)) {
  row(
    `the graph searched ${depth} deep, each`,
    await each(depth, (round) => index.search(query(round), depth)),
  )
}
for (const count of [100, 1000, 10_000].filter((one) => one < items)) {
  const ids = Array.from({ length: count }, (_, at) => idOf(at * Math.floor(items / count)))
  row(
    `embeddings of ${count} read and compared, each`,
    await each(count, (round) => ids.map((id) => cosine(query(round), store.embedding(id) ?? []))),
  )
  row(
    `payloads of ${count} read and tested, each`,
    await each(count, () => ids.map((id) => test(store.payload(id) ?? null))),
  )
}
row(
  'all payloads read in order and tested, each',
  await each(items, () => {
    for (let from = 0; from < store.position;) {
      const { payloads, position } = store.payloadsSince(from, 500)
      for (const { payload } of payloads) test(payload)
      from = position
    }
  }),
)
console.log(`recall of ${CANDIDATES}`)
row('without a filter', await each(1, (round) => index.search(query(round), CANDIDATES)))
for (const share of [0.5, 0.1, 0.02, 0.001]) {
  // A new filter in each round, so that none is cached; then one for all rounds.
  const filterOf = (round: number) =>
    parseFilter({ must: [{ key: 'number', range: { lt: Math.ceil(share * items) + round } }] })
  const recall = (sets: FilteredSets, round: number, filter: Filter) =>
    filteredRecall({ index, store }, sets, {
      filter,
      embedding: query(round),
      candidates: CANDIDATES,
      signal: undefined,
    })
  row(
    `where ${100 * share} % pass, for the first time`,
    await each(1, (round) => recall(new FilteredSets(), round, filterOf(round))),
  )
  const sets = new FilteredSets()
  row(
    `where ${100 * share} % pass, again`,
    await each(1, (round) => recall(sets, round, filterOf(0))),
  )
}
await index.close()
await store.close()
await rm(folder, { recursive: true })
