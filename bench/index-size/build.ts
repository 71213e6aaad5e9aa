/**
 * Builds the index of each size once and keeps the snapshots: half an hour of one core for a
 * million. An interrupted run continues from the last snapshot.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { copyFile, link, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openVectorIndex } from '../../src/vector-index/open.js'
import type { VectorIndex } from '../../src/vector-index/vector-index.js'
import { memoryByProcess } from '../../test/support/process-memory.js'
import { coreSecondsOf, total } from '../core-time.js'
import { extended, row, type Vectors } from '../vectors.js'

/** Embeddings for one change of the index. */
const AT_ONCE = 1000

/** Cost of building in the graph's process. */
export interface Built {
  items: number
  /** For the items since the size before. */
  core_seconds: number
  /** Of the process without what it had before the first item. */
  bytes: number
  save_seconds: number
}

export function openSnapshot(folder: string, dim: number): Promise<VectorIndex> {
  return openVectorIndex({
    kind: 'hnsw',
    folder,
    dim,
    fingerprint: 'bench',
    storeIdentity: 'bench',
  })
}

/** The folder of the snapshot of `items`; `build.json` beside it says what it took. */
export function snapshotOf(folder: string, items: number): string {
  return join(folder, `items-${items}`)
}

/** @param sizes - ascending; those whose snapshot is there are not built again */
export async function buildSnapshots(
  folder: string,
  real: Vectors,
  sizes: readonly number[],
): Promise<void> {
  const missing = sizes.filter(
    (items) => !existsSync(join(snapshotOf(folder, items), 'build.json')),
  )
  if (missing.length === 0) return
  const index = await openSnapshot(join(folder, 'growing'), real.dim)
  try {
    const empty = graphBytes()
    for (const items of missing) {
      const coreSeconds = await inWorker(() => fill(index, real, items))
      const bytes = graphBytes() - empty
      const saved = performance.now()
      await index.save()
      const built: Built = {
        items,
        core_seconds: coreSeconds,
        bytes,
        save_seconds: (performance.now() - saved) / 1000,
      }
      await keep(join(folder, 'growing'), snapshotOf(folder, items), built)
      process.stderr.write(`${JSON.stringify(built)}\n`)
    }
  } finally {
    await index.close()
  }
  await rm(join(folder, 'growing'), { recursive: true })
}

/**
 * Core-seconds that building the snapshot of `items` took, those of the ones before it included.
 */
export function coreSecondsOfBuild(folder: string, items: number): number {
  const builds = readdirSync(folder)
    .map((name) => join(folder, name, 'build.json'))
    .filter(existsSync)
    .map((file) => JSON.parse(readFileSync(file, 'utf8')) as Built)
  return builds
    .filter((built) => built.items <= items)
    .reduce((sum, built) => sum + built.core_seconds, 0)
}

async function fill(index: VectorIndex, real: Vectors, items: number): Promise<void> {
  while (index.size < items) {
    const from = index.size
    const some = extended(real, from, Math.min(AT_ONCE, items - from))
    const entries = Array.from({ length: some.count }, (_, at) => ({
      id: `photo-${from + at}`,
      embedding: row(some, at),
    }))
    await index.upsert(entries, from + some.count)
    if (index.size % 50_000 === 0) process.stderr.write(`${index.size} of ${items} items\n`)
  }
}

/** Links graph files, which never change, and copies the others. */
async function keep(from: string, to: string, built: Built): Promise<void> {
  await rm(to, { recursive: true, force: true })
  await mkdir(to, { recursive: true })
  for (const name of await readdir(from))
    await (name.endsWith('.bin') ? link : copyFile)(join(from, name), join(to, name))
  await writeFile(join(to, 'build.json'), JSON.stringify(built))
}

/** Core-seconds of the process of the graph for `work`. */
async function inWorker(work: () => Promise<void>): Promise<number> {
  const cost = await coreSecondsOf(process.pid, 1, work)
  return total(
    Object.fromEntries(Object.entries(cost).filter(([module]) => module.startsWith('hnsw'))),
  )
}

/** Memory of the process of the graph that is its own. */
export function graphBytes(): number {
  const ours = [...memoryByProcess(process.pid)].filter(([module]) => module.startsWith('hnsw'))
  return ours.reduce((sum, [, { anonymous }]) => sum + anonymous, 0)
}
