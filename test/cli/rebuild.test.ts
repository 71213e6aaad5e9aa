import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import sharp from 'sharp'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { rebuild } from '../../src/cli/rebuild.js'
import { packageFolder, readConfig, type Config } from '../../src/config.js'
import { lockDataFolder } from '../../src/files/lock.js'
import { StoreMismatchError } from '../../src/item-store/stamp.js'
import { openItemStore } from '../../src/item-store/open.js'
import { openModels } from '../../src/model/open.js'
import type { Models } from '../../src/model/models.js'

const tinyBundle = join(packageFolder, 'test', 'fixtures', 'tiny-bundle')
const quiet = { out: new PassThrough(), err: new PassThrough() }

let folder: string
let config: Config
let otherBundle: string

const modelsOf = (modelFolder: string): Promise<Models> =>
  openModels({ folder: modelFolder, inferenceThreads: 1, maxImagePixels: 1e6 })

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-test-'))
  // The same graphs with another limit of tokens: another fingerprint.
  otherBundle = join(folder, 'other-bundle')
  await cp(tinyBundle, otherBundle, { recursive: true })
  const manifest = JSON.parse(await readFile(join(otherBundle, 'manifest.json'), 'utf8')) as {
    text_encoder: { max_tokens: number }
  }
  manifest.text_encoder.max_tokens -= 1
  await writeFile(join(otherBundle, 'manifest.json'), JSON.stringify(manifest))
  config = {
    ...readConfig({}),
    dataFolder: join(folder, 'data'),
    modelFolder: otherBundle,
    inferenceThreads: 1,
  }
})
afterEach(() => rm(folder, { recursive: true }))

/** Fills the data folder with `count` items made by the tiny bundle. */
async function fill(count: number): Promise<void> {
  const models = await modelsOf(tinyBundle)
  const store = await openItemStore({
    folder: join(config.dataFolder, 'items'),
    fingerprint: models.info.fingerprint,
  })
  for (let at = 0; at < count; at += 1) {
    const image = await sharp({
      create: { width: 40, height: 30, channels: 3, background: { r: 5 * at, g: 90, b: 200 } },
    })
      .png()
      .toBuffer()
    const [encoded] = (await models.encodeImages([image])).encoded
    if (encoded === undefined) throw new Error('nothing was encoded')
    await store.put([
      { id: `item-${at}`, payload: { at }, ...encoded, addedAt: '2020-01-02T03:04:05.678Z' },
    ])
  }
  await store.close()
  await models.close()
}

describe('rebuild', { timeout: 120_000 }, () => {
  it('re-embeds every item and keeps its image, payload and time', async () => {
    await fill(40)
    const items = join(config.dataFolder, 'items')
    const before = await openItemStore({ folder: items, fingerprint: null })
    const images = before
      .list({ limit: 100 })
      .map(({ id }) => Buffer.from(before.image(id) ?? []).toString('base64'))
    await before.close()

    expect(await rebuild(config, quiet)).toEqual({ items: 40 })

    const models = await modelsOf(otherBundle)
    const after = await openItemStore({ folder: items, fingerprint: models.info.fingerprint })
    const list = after.list({ limit: 100 })
    expect(list).toHaveLength(40)
    expect(list.map(({ id }) => Buffer.from(after.image(id) ?? []).toString('base64'))).toEqual(
      images,
    )
    expect(after.get('item-7')).toMatchObject({
      payload: { at: 7 },
      addedAt: '2020-01-02T03:04:05.678Z',
    })
    const [encoded] = (await models.encodeImages([after.image('item-7') ?? new Uint8Array()]))
      .encoded
    expect(after.get('item-7')?.embedding).toEqual(encoded?.embedding)
    await after.close()
    await models.close()
    expect((await readdir(config.dataFolder)).sort()).toEqual(['items', 'lock'])
  })

  it('changes nothing if the bundle cannot be opened', async () => {
    await fill(1)
    await expect(rebuild({ ...config, modelFolder: join(folder, 'none') }, quiet)).rejects.toThrow(
      /no model bundle/,
    )
    const { fingerprint } = await modelsInfo(tinyBundle)
    const store = await openItemStore({ folder: join(config.dataFolder, 'items'), fingerprint })
    expect(store.size).toBe(1)
    await store.close()
    const other = (await modelsInfo(otherBundle)).fingerprint
    await expect(
      openItemStore({ folder: join(config.dataFolder, 'items'), fingerprint: other }),
    ).rejects.toThrow(StoreMismatchError)
  })

  it('refuses a folder in use and names its process', async () => {
    await fill(1)
    const lock = await lockDataFolder(config.dataFolder, 'a Tandem service')
    await expect(rebuild(config, quiet)).rejects.toThrow(/in use by a Tandem service/)
    await lock.release()
  })

  it('resumes an interrupted rebuild and does nothing after a complete one', async () => {
    await fill(12)
    const { fingerprint } = await modelsInfo(otherBundle)
    const store = await openItemStore({
      folder: join(config.dataFolder, 'items'),
      fingerprint: null,
    })
    const [item] = store.list({ limit: 1 })
    await store.bundles.begin({ name: 'other-bundle', fingerprint })
    const { changes } = store.bundles.view(fingerprint).pending(1)
    const { embedding, imageTokens } = item as NonNullable<typeof item>
    await store.bundles.view(fingerprint).addEncodings(
      changes.map((change) => ({ ...change, embedding, imageTokens })),
      1,
    )
    await store.close()
    expect(await rebuild(config, quiet)).toEqual({ items: 12 })
    expect(await rebuild(config, quiet)).toEqual({ items: 0 })
  })

  it('refuses a data folder without items', async () => {
    await expect(rebuild(config, quiet)).rejects.toThrow(/There are no items in/)
  })
})

async function modelsInfo(modelFolder: string): Promise<Models['info']> {
  const models = await modelsOf(modelFolder)
  await models.close()
  return models.info
}
