/** Cost of an insert, a search and an item in the process of the embedded HNSW. */
import { openVectorIndex } from '../../src/vector-index/open.js'
import { memoryByProcess } from '../../test/support/process-memory.js'
import { coreSecondsOf, total } from '../core-time.js'
import type { Figures } from './figures.js'

const SEARCHES = 2000
const CANDIDATES = 64
/** Embeddings of photos form clusters: their number and width. */
const HEAPS = 200
const WIDTH = 0.5
const AT_ONCE = 1000

export async function hnswFigures(options: {
  folder: string
  dim: number
  items: number
}): Promise<Figures['hnsw']> {
  const { folder, dim, items } = options
  const centres = Array.from({ length: HEAPS }, (_, seed) => gaussian(dim, seed + 1))
  const embedding = (at: number): Float32Array => {
    const centre = centres[at % HEAPS] ?? new Float32Array(dim)
    return gaussian(dim, 1e6 + at).map((value, axis) => WIDTH * value + (centre[axis] ?? 0))
  }
  const index = await openVectorIndex({
    kind: 'hnsw',
    folder,
    dim,
    fingerprint: 'none',
    storeIdentity: 'none',
  })
  const inWorker = async (times: number, work: () => Promise<void>): Promise<number> => {
    const cost = await coreSecondsOf(process.pid, times, work)
    return total(
      Object.fromEntries(Object.entries(cost).filter(([module]) => module.startsWith('hnsw'))),
    )
  }
  const memory = (): number => {
    const ours = [...memoryByProcess(process.pid)].filter(([module]) => module.startsWith('hnsw'))
    return ours.reduce((sum, [, { anonymous }]) => sum + anonymous, 0)
  }
  try {
    const before = memory()
    const insert = await inWorker(items, async () => {
      for (let from = 0; from < items; from += AT_ONCE) {
        const length = Math.min(AT_ONCE, items - from)
        const entries = Array.from({ length }, (_, row) => ({
          id: `photo-${from + row}`,
          embedding: embedding(from + row),
        }))
        await index.upsert(entries, from + length)
      }
    })
    const bytes = (memory() - before) / items
    const search = await inWorker(SEARCHES, async () => {
      for (let at = 0; at < SEARCHES; at += 1) await index.search(embedding(items + at), CANDIDATES)
    })
    return { items, insert, search, bytes_an_item: Math.round(bytes) }
  } finally {
    await index.close()
  }
}

/** The same numbers for the same seed (mulberry32, made normal by Box and Muller). */
function gaussian(length: number, seed: number): Float32Array {
  let state = seed
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return Float32Array.from(
    { length },
    () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
  )
}
