import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { check, checkLines } from '../../src/cli/check.js'
import { repairIndex } from '../../src/collection/embedded/repair.js'
import { readConfig, type Config } from '../../src/config.js'
import { lockDataFolder } from '../../src/files/lock.js'
import type { ItemStore, NewItem } from '../../src/item-store/item-store.js'
import { openItemStore } from '../../src/item-store/open.js'
import { openVectorIndex } from '../../src/vector-index/open.js'
import type { VectorIndex } from '../../src/vector-index/vector-index.js'
import type { Sidecar } from '../../src/vector-index/snapshot.js'
import { testItem } from '../support/test-item.js'
import { randomEmbeddings } from '../support/random-embeddings.js'

vi.setConfig({ testTimeout: 60_000 })

const DIM = 16
const COUNT = 300
const embeddings = randomEmbeddings(COUNT, DIM)
const options = { sample: COUNT, repair: false }

let config: Config
beforeEach(async () => {
  const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-check-'))
  config = { ...readConfig({}), dataFolder }
  await withRooms(async (store, index) => {
    await store.put(embeddings.map((_, at) => item(at)))
    await repairIndex(store, index)
    await index.save()
  })
})
afterEach(() => rm(config.dataFolder, { recursive: true }))

const item = (at: number, embedding = embeddings[at] as Float32Array): NewItem => ({
  ...testItem(`item ${at}`),
  embedding,
})

async function withRooms(
  work: (store: ItemStore, index: VectorIndex) => Promise<void>,
): Promise<void> {
  const store = await openItemStore({
    folder: join(config.dataFolder, 'items'),
    fingerprint: 'aaaa',
  })
  const folder = join(config.dataFolder, 'index', 'aaaa')
  const index = await openVectorIndex({
    kind: 'hnsw',
    folder,
    dim: DIM,
    fingerprint: 'aaaa',
    storeIdentity: store.identity,
  })
  await work(store, index)
  await index.close()
  await store.close()
}

const sidecarFile = (): string => join(config.dataFolder, 'index', 'aaaa', 'hnsw.json')
/** Without its digest, as earlier versions wrote it. */
const sidecar = async (): Promise<Sidecar> => {
  const text = await readFile(sidecarFile(), 'utf8')
  return JSON.parse(text.replace(/,"sha256":"\w+"}\n$/, '}')) as Sidecar
}

describe('tandem check', () => {
  it('refuses a folder in use and names its process', async () => {
    const lock = await lockDataFolder(config.dataFolder, 'a Tandem service')
    await expect(check(config, options)).rejects.toThrow(
      `in use by a Tandem service (process ${process.pid}`,
    )
    await lock.release()
    expect(await check(config, options)).toMatchObject({ isSound: true })
  })

  it('finds an intact folder sound and changes nothing', async () => {
    const before = await readFile(sidecarFile())
    const outcome = await check(config, options)
    expect(outcome).toMatchObject({
      items: COUNT,
      sample: COUNT,
      isSound: true,
      isRepaired: false,
      remark: null,
    })
    expect(checkLines(outcome).at(-1)).toBe('sound')
    expect(await readFile(sidecarFile())).toEqual(before)
  })

  it('reports an old or missing snapshot, which is no fault', async () => {
    await withRooms(async (store) => void (await store.put([item(7, embeddings[8])])))
    expect(await check(config, options)).toMatchObject({
      isSound: true,
      remark: expect.stringMatching(/at change 300, the store at 301/) as string,
    })
    await writeFile(sidecarFile(), 'torn')
    expect(await check(config, options)).toMatchObject({
      isSound: true,
      remark: expect.stringMatching(/cannot be read/) as string,
    })
  })

  it('names items with another embedding in the graph and repairs them', async () => {
    await withRooms(async (store, index) => {
      await index.upsert(
        [{ id: 'item 3', embedding: embeddings[200] as Float32Array }],
        store.position,
      )
      await index.save()
    })
    const outcome = await check(config, options)
    expect([...outcome.outdated, ...outcome.unreachable]).toEqual(['item 3'])
    expect(checkLines(outcome).join('\n')).toMatch(
      /(outdated|unreachable) in the sample: 1 \(item 3\)[^]*not sound$/,
    )
    expect(await check(config, { ...options, repair: true })).toMatchObject({
      isSound: true,
      isRepaired: true,
    })
    expect(await check(config, options)).toMatchObject({
      isSound: true,
      isRepaired: false,
      remark: null,
    })
  })

  it('names items missing in an index that claims to be complete', async () => {
    await withRooms(async (store, index) => {
      await index.remove(['item 5', 'item 6'], store.position)
      await index.save()
    })
    expect(await check(config, options)).toMatchObject({
      missing: ['item 5', 'item 6'],
      isSound: false,
    })
  })

  it('finds a graph with swapped labels not sound', async () => {
    const { ids, ...rest } = await sidecar()
    await writeFile(sidecarFile(), JSON.stringify({ ...rest, ids: [...ids].reverse() }))
    const { annRecall, isSound, unreachable } = await check(config, options)
    expect(isSound).toBe(false)
    expect(unreachable.length).toBeGreaterThan(COUNT / 2)
    expect(annRecall).toBeGreaterThan(0)
  })

  it('names damaged items of the store, and does not compare the index with them', async () => {
    const file = join(config.dataFolder, 'items', 'data.mdb')
    const image = randomBytes(5000)
    const changed = { ...item(42), image: { ...item(42).image, bytes: image } }
    await withRooms(async (store) => void (await store.put([changed])))
    const bytes = await readFile(file)
    const at = bytes.indexOf(image.subarray(0, 64))
    bytes[at + 2000] = (bytes[at + 2000] ?? 0) ^ 1
    await writeFile(file, bytes)
    const outcome = await check(config, options)
    expect(outcome).toMatchObject({ damaged: ['item 42'], isSound: false, isRepaired: false })
    expect(checkLines(outcome).join('\n')).toMatch(
      /damaged store\. Add the items again[^]*damaged in the store: 1 \(item 42\)[^]*not sound$/,
    )
  })

  it('names a store that is cut off before it opens it', async () => {
    const file = join(config.dataFolder, 'items', 'data.mdb')
    await truncate(file, 300_000)
    await expect(check(config, options)).rejects.toThrow(
      /item store in .* is damaged: .* 300000 bytes.* restore a backup/,
    )
  })

  it('refuses a data folder without items', async () => {
    await expect(
      check({ ...config, dataFolder: join(config.dataFolder, 'none') }, options),
    ).rejects.toThrow(/There are no items in/)
  })
})
