/** Data folders of every released format still open and give the same results. */
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { buildApp, type Tandem } from '../../src/http/app.js'
import { packageFolder, readConfig } from '../../src/config.js'
import type { ItemStore } from '../../src/item-store/item-store.js'
import { StoreMismatchError } from '../../src/item-store/stamp.js'
import { openItemStore } from '../../src/item-store/open.js'
import { STORE_FORMAT } from '../../src/item-store/stamp.js'

vi.setConfig({ testTimeout: 60_000 })

const fixtures = join(packageFolder, 'test', 'fixtures')
const formats = (await readdir(fixtures)).flatMap(
  (name) => /^data-format-(\d+)$/.exec(name)?.[1] ?? [],
)

let dataFolder: string
const running: Tandem[] = []

beforeEach(async () => {
  dataFolder = await mkdtemp(join(tmpdir(), 'tandem-'))
})
afterEach(async () => {
  for (const tandem of running.splice(0)) await tandem.close()
  await rm(dataFolder, { recursive: true, force: true })
})

async function start(): Promise<Tandem & { repaired: { replayed: number; removed: number } }> {
  const modelFolder = join(fixtures, 'tiny-bundle')
  const config = {
    ...readConfig({}),
    logLevel: 'silent' as const,
    inferenceThreads: 1,
    dataFolder,
    modelFolder,
  }
  const tandem = await buildApp(config)
  running.push(tandem)
  return { ...tandem, repaired: await tandem.retrieval.start() }
}

const stop = (): Promise<void> | undefined => running.pop()?.close()

it('the fixtures contain a data folder of the present format', () => {
  expect(formats).toContain(String(STORE_FORMAT))
})

describe.each(formats)('a data folder of format %s', (format) => {
  beforeEach(() => cp(join(fixtures, `data-format-${format}`), dataFolder, { recursive: true }))

  it('opens with every part of its items', async () => {
    const { retrieval } = await start()
    expect((await retrieval.list({ limit: 10 })).items.map(({ id }) => id)).toEqual([
      'meadow',
      'sky',
      'sunset',
    ])
    expect(await retrieval.get('sky')).toMatchObject({
      payload: null,
      position: 1,
      image: { width: 16, height: 12 },
    })
    expect((await retrieval.get('sunset')).payload).toEqual({
      colour: '#f82',
      named: { été: '海' },
    })
    expect(Buffer.from(await retrieval.image('meadow')).subarray(0, 2)).toEqual(
      Buffer.from([0xff, 0xd8]),
    )
    for (const id of ['sky', 'sunset', 'meadow']) {
      const [encoded] = (await retrieval.embed([{ image: await retrieval.image(id) }])).embeddings
      const stored = (await retrieval.get(id)).embedding
      // The stored image is a JPEG of the encoded one, so the two embeddings differ slightly.
      const similarity = stored.reduce((sum, value, at) => sum + value * (encoded?.[at] ?? 0), 0)
      expect(similarity).toBeGreaterThan(0.99)
      const { hits } = await retrieval.search({ image: await retrieval.image(id) }, { k: 3 })
      expect(hits.map((hit) => hit.id).sort()).toEqual(['meadow', 'sky', 'sunset'])
    }
  })

  it('accepts writes and needs no repair at the next start', async () => {
    const first = await start()
    expect(await first.retrieval.remove('sky')).toBe(true)
    await stop()
    const second = await start()
    expect(second.repaired).toEqual({ replayed: 0, removed: 0 })
    expect((await second.retrieval.list({ limit: 10 })).items.map(({ id }) => id)).toEqual([
      'meadow',
      'sunset',
    ])
  })
})

it('an index of another store is not used, even at the same position', async () => {
  const fixture = join(fixtures, `data-format-${STORE_FORMAT}`)
  await cp(fixture, dataFolder, { recursive: true })
  expect((await start()).repaired).toEqual({ replayed: 0, removed: 0 })
  await stop()
  // The same items and position in another store: only the identity differs.
  await rm(join(dataFolder, 'items'), { recursive: true })
  await cp(join(fixtures, 'data-format-1', 'items'), join(dataFolder, 'items'), { recursive: true })
  const { repaired } = await start()
  expect(repaired).toEqual({ replayed: 3, removed: 0 })
})

describe('a migration', () => {
  const items = (): string => join(dataFolder, 'items')
  const first = join(fixtures, 'data-format-1', 'items')
  const openStore = (onMigration?: (items: number) => void): Promise<ItemStore> =>
    openItemStore({
      folder: items(),
      fingerprint: null,
      ...(onMigration === undefined ? {} : { onMigration }),
    })

  it('reports its progress and runs once', async () => {
    await cp(first, items(), { recursive: true })
    const reported: number[] = []
    await (await openStore((migrated) => reported.push(migrated))).close()
    await (await openStore((migrated) => reported.push(migrated))).close()
    expect(reported.at(-1)).toBe(3)
    expect(reported.filter((migrated, at) => migrated < (reported[at - 1] ?? 0))).toEqual([])
  })

  it('does not change a store of another bundle', async () => {
    await cp(first, items(), { recursive: true })
    await expect(openItemStore({ folder: items(), fingerprint: 'another' })).rejects.toThrow(
      StoreMismatchError,
    )
    const reported: number[] = []
    await (await openStore((migrated) => reported.push(migrated))).close()
    expect(reported.at(-1)).toBe(3)
  })
})
