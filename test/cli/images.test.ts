import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { comparePictures, picturesLines, type Named } from '../../src/cli/images.js'
import { readConfig } from '../../src/config.js'
import { connectMilvus } from '../../src/collection/milvus/milvus.js'
import { openSharedPlace } from '../../src/collection/milvus/open.js'
import { hasMilvus, Milvus, withoutMilvus } from '../support/milvus.js'

const HOUR_MS = 3_600_000
const agoH = (hours: number): Date => new Date(Date.now() - hours * HOUR_MS)

/** Pictures by key with their age in hours, and items by id with the keys that they name. */
function collection(pictures: Record<string, number>, items: Record<string, string>) {
  const there = new Map(Object.entries(pictures))
  const named = new Map(Object.entries(items))
  const store = {
    async *list() {
      for (const [key, hours] of [...there])
        yield await Promise.resolve({ key, storedAt: agoH(hours) })
    },
  }
  const shared: Named = {
    async *pictureKeys() {
      for (const [id, key] of [...named]) yield await Promise.resolve({ id, key })
    },
    picture: (id) =>
      Promise.resolve(there.has(named.get(id) ?? '') ? new Uint8Array(1) : undefined),
    getMany: (ids) => Promise.resolve(ids.map((id) => (named.has(id) ? { id } : undefined))),
  }
  return { there, named, store, shared }
}

describe('comparing pictures with items', () => {
  it('finds pictures that no item names, and items whose picture is gone', async () => {
    const { store, shared } = collection({ a1: 48, a2: 48, b1: 48 }, { a: 'a2', b: 'b1', c: 'c1' })
    const outcome = await comparePictures(store, shared, HOUR_MS)
    expect(outcome).toEqual({ pictures: 3, items: 3, orphans: ['a1'], missing: ['c'] })
    expect(picturesLines(outcome, false)).toEqual([
      '3 pictures of 3 items',
      'pictures that no item names: 1 (a1)',
      'items without their picture: 1 (c)',
    ])
  })

  it('passes over young pictures: their items may be on their way', async () => {
    const { store, shared } = collection({ young: 0.5, old: 2 }, {})
    expect(await comparePictures(store, shared, HOUR_MS)).toMatchObject({ orphans: ['old'] })
  })

  it('takes what is added, replaced and removed meanwhile for neither', async () => {
    const { there, named, store, shared } = collection({ a1: 48, b1: 48 }, { a: 'a1', b: 'b1' })
    async function* pictureKeys(): ReturnType<Named['pictureKeys']> {
      there.set('a2', 0)
      named.set('a', 'a2')
      there.delete('a1')
      there.set('new1', 0)
      named.set('new', 'new1')
      yield* shared.pictureKeys()
      named.delete('b')
      there.delete('b1')
    }
    const outcome = await comparePictures(store, { ...shared, pictureKeys }, HOUR_MS)
    // The former picture of `a` has gone by then; to remove it once more does nothing.
    expect(outcome).toMatchObject({ orphans: ['a1'], missing: [] })
  })
})

describe.skipIf(!hasMilvus)(
  `pictures of a collection in Milvus ${hasMilvus ? '' : withoutMilvus}`,
  () => {
    it('are compared with its items, and those of other collections left alone', async () => {
      const folder = await mkdtemp(join(tmpdir(), 'tandem-pictures-'))
      const milvus = await Milvus.start()
      const config = readConfig({
        VECTOR_INDEX: 'milvus',
        MILVUS_ADDRESS: milvus.address,
        PICTURE_STORE: folder,
      })
      const bundle = { fingerprint: 'aaaabbbbccccdddd', dim: 4 }
      const { milvus: at, pictures } = await openSharedPlace(config, bundle, () => undefined)
      const items = connectMilvus(at)
      const other = await openSharedPlace(
        { ...config, milvusCollection: 'other' },
        bundle,
        () => undefined,
      )
      try {
        await items.start(30_000)
        for (const id of ['beach', 'town', 'hill']) {
          const picture = {
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
            picture,
          })
        }
        const orphan = await pictures.put('never stored', new Uint8Array(3))
        await other.pictures.put('of another collection', new Uint8Array(3))
        for await (const { id, key } of items.pictureKeys())
          if (id === 'hill') await pictures.remove(key)
        const outcome = await comparePictures(pictures, items, -HOUR_MS)
        expect(outcome).toEqual({ pictures: 3, items: 3, orphans: [orphan], missing: ['hill'] })
      } finally {
        await items.close()
        await milvus.end()
        await rm(folder, { recursive: true })
      }
    })
  },
)
