import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { compareImages, imagesLines, type ItemImages } from '../../src/cli/images.js'
import { readConfig } from '../../src/config.js'
import { connectMilvus } from '../../src/collection/milvus/items.js'
import { openSharedPlace } from '../../src/collection/milvus/open.js'
import { hasMilvus, Milvus, withoutMilvus } from '../support/milvus.js'

vi.setConfig({ testTimeout: 60_000 })

const HOUR_MS = 3_600_000
const agoH = (hours: number): Date => new Date(Date.now() - hours * HOUR_MS)

/** Images by key with their age in hours, and items by id with the keys that they name. */
function collection(images: Record<string, number>, items: Record<string, string>) {
  const there = new Map(Object.entries(images))
  const named = new Map(Object.entries(items))
  const store = {
    async *list() {
      for (const [key, hours] of [...there])
        yield await Promise.resolve({ key, storedAt: agoH(hours) })
    },
  }
  const shared: ItemImages = {
    async *imageKeys() {
      for (const [id, key] of [...named]) yield await Promise.resolve({ id, key })
    },
    image: (id) => Promise.resolve(there.has(named.get(id) ?? '') ? new Uint8Array(1) : undefined),
    getMany: (ids) => Promise.resolve(ids.map((id) => (named.has(id) ? { id } : undefined))),
  }
  return { there, named, store, shared }
}

describe('comparing images with items', () => {
  it('finds images without an item, and items without their image', async () => {
    const { store, shared } = collection({ a1: 48, a2: 48, b1: 48 }, { a: 'a2', b: 'b1', c: 'c1' })
    const outcome = await compareImages(store, shared, HOUR_MS)
    expect(outcome).toEqual({ images: 3, items: 3, orphans: ['a1'], missing: ['c'] })
    expect(imagesLines(outcome, false)).toEqual([
      '3 images of 3 items',
      'images without an item: 1 (a1)',
      'items without their image: 1 (c)',
    ])
  })

  it('ignores young images, whose items may be in the process of being added', async () => {
    const { store, shared } = collection({ young: 0.5, old: 2 }, {})
    expect(await compareImages(store, shared, HOUR_MS)).toMatchObject({ orphans: ['old'] })
  })

  it('reports nothing for items that are added, replaced or removed meanwhile', async () => {
    const { there, named, store, shared } = collection({ a1: 48, b1: 48 }, { a: 'a1', b: 'b1' })
    async function* imageKeys(): ReturnType<ItemImages['imageKeys']> {
      there.set('a2', 0)
      named.set('a', 'a2')
      there.delete('a1')
      there.set('new1', 0)
      named.set('new', 'new1')
      yield* shared.imageKeys()
      named.delete('b')
      there.delete('b1')
    }
    const outcome = await compareImages(store, { ...shared, imageKeys }, HOUR_MS)
    // The former image of `a` has gone by then; to remove it once more does nothing.
    expect(outcome).toMatchObject({ orphans: ['a1'], missing: [] })
  })
})

describe.skipIf(!hasMilvus)(
  `images of a collection in Milvus ${hasMilvus ? '' : withoutMilvus}`,
  () => {
    it('are compared with its items only', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'tandem-images-'))
      const milvus = await Milvus.start()
      const config = readConfig({
        VECTOR_INDEX: 'milvus',
        MILVUS_ADDRESS: milvus.address,
        IMAGE_STORE: folder,
      })
      const bundle = { fingerprint: 'aaaabbbbccccdddd', dim: 4 }
      const { milvus: at, images } = await openSharedPlace(config, bundle, () => undefined)
      const items = connectMilvus(at)
      const other = await openSharedPlace(
        { ...config, milvusCollection: 'other' },
        bundle,
        () => undefined,
      )
      try {
        await items.start(30_000)
        for (const id of ['beach', 'town', 'hill']) {
          const image = {
            bytes: new TextEncoder().encode(id),
            mime: 'image/jpeg',
            width: 1,
            height: 1,
          }
          await items.put({
            id,
            payload: null,
            embedding: Float32Array.of(1, 0, 0, 0),
            imageTokens: new Int8Array(8),
            image,
          })
        }
        const orphan = await images.put('never stored', new Uint8Array(3))
        await other.images.put('of another collection', new Uint8Array(3))
        for await (const { id, key } of items.imageKeys())
          if (id === 'hill') await images.remove(key)
        const outcome = await compareImages(images, items, -HOUR_MS)
        expect(outcome).toEqual({ images: 3, items: 3, orphans: [orphan], missing: ['hill'] })
      } finally {
        await items.close()
        await milvus.end()
        await rm(folder, { recursive: true })
      }
    })
  },
)
