/**
 * Items, queries and exact answers of the search workload, the same for all services.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import hnswlib from 'hnswlib-node'
import { filledFolder } from '../filled-folder.js'
import { row, type Vectors } from '../vectors.js'
import type { Searched } from './peer.js'

/**
 * M and efConstruction of the peers' graph: those of Tandem's, which are what hnswlib's authors
 * propose.
 */
const M = 16
const EF_CONSTRUCTION = 200
const BEAMS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
export const K = 10
/** Of the items that exact search finds, so many have to be found. */
export const RECALL = 0.99

export interface Corpus {
  items: number
  dim: number
  data: string
  /** Of the peers: the smallest beam that finds enough. */
  searched: Searched
  queries: string[]
  /** Ids of the items nearest to each query. */
  nearest: ReadonlySet<string>[]
}

/**
 * @param queries - texts with the embeddings that the bundle makes of them
 * @param folder - where everything is kept for the next run
 */
export async function corpus(
  bundle: string,
  vectors: Vectors,
  queries: { texts: string[]; embeddings: Vectors },
  folder: string,
): Promise<Corpus> {
  await mkdir(folder, { recursive: true })
  const { data, items } = await filledFolder(bundle, vectors, join(folder, 'data'))
  const itemsFile = join(folder, 'items.json')
  writeFileSync(itemsFile, JSON.stringify(items))
  const indexFile = join(folder, 'peer.hnsw')
  if (!existsSync(indexFile)) await buildIndex(vectors, indexFile)
  const embeddings = queries.texts.map((_, at) => row(queries.embeddings, at))
  const nearest = embeddings.map((query) => exact(vectors, query))
  const ef = smallestBeam(vectors.dim, indexFile, embeddings, nearest)
  return {
    items: vectors.count,
    dim: vectors.dim,
    data,
    searched: { index: indexFile, items: itemsFile, ef },
    queries: queries.texts,
    nearest: nearest.map((found) => new Set(found.map((at) => items[at]?.id ?? ''))),
  }
}

/** Blocks for minutes where there are many. */
async function buildIndex(vectors: Vectors, file: string): Promise<void> {
  const index = new hnswlib.HierarchicalNSW('ip', vectors.dim)
  index.initIndex({ maxElements: vectors.count, m: M, efConstruction: EF_CONSTRUCTION })
  for (let at = 0; at < vectors.count; at += 1) index.addPoint(Array.from(row(vectors, at)), at)
  index.writeIndexSync(`${file}.new`)
  await rename(`${file}.new`, file)
}

/** The rows nearest to `query`, by comparing it with every one. */
function exact({ dim, count, packed }: Vectors, query: Float32Array): number[] {
  const best: { at: number; similarity: number }[] = []
  for (let at = 0; at < count; at += 1) {
    let similarity = 0
    for (let i = 0; i < dim; i += 1)
      similarity += (packed[at * dim + i] as number) * (query[i] as number)
    if (best.length === K && similarity <= (best.at(-1)?.similarity ?? 0)) continue
    best.push({ at, similarity })
    best.sort((a, b) => b.similarity - a.similarity)
    best.length = Math.min(best.length, K)
  }
  return best.map(({ at }) => at)
}

function smallestBeam(
  dim: number,
  file: string,
  queries: readonly Float32Array[],
  nearest: readonly number[][],
): number {
  const index = new hnswlib.HierarchicalNSW('ip', dim)
  index.readIndexSync(file)
  for (const ef of BEAMS) {
    index.setEf(ef)
    const found = queries.map(
      (query) => index.searchKnn(Array.from(query), Math.min(K, index.getCurrentCount())).neighbors,
    )
    if (
      recallOf(
        found,
        nearest.map((one) => new Set(one)),
      ) >= RECALL
    )
      return ef
  }
  throw new Error(
    `no beam up to ${BEAMS.at(-1)} finds ${100 * RECALL} % of what exact search finds`,
  )
}

/** The mean share of `nearest` that was found. */
export function recallOf<Id>(
  found: readonly (readonly Id[])[],
  nearest: readonly ReadonlySet<Id>[],
): number {
  const shares = nearest.map(
    (wanted, at) => (found[at] ?? []).filter((id) => wanted.has(id)).length / wanted.size,
  )
  return shares.reduce((sum, share) => sum + share, 0) / shares.length
}
