/** Copies of a store during writes. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { ItemStore } from '../../src/item-store/item-store.js'
import { openItemStore } from '../../src/item-store/open.js'
import { smallDisk } from '../support/small-disk.js'
import { testItem } from '../support/test-item.js'

let folder: string
let store: ItemStore

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-copy-'))
  store = await openItemStore({ folder: join(folder, 'store'), fingerprint: 'aaaa' })
})
afterEach(async () => {
  await store.close()
  await rm(folder, { recursive: true, force: true })
})

/**
 * Replaces and removes items until the returned function is called. The items `-a` and `-b` of a
 * number change in the same transaction.
 */
function writeEndlessly(): () => Promise<void> {
  let isWriting = true
  const run = async (writer: number): Promise<void> => {
    for (let version = 1; isWriting; version += 1) {
      const ids = [`${writer}-${version % 7}-a`, `${writer}-${version % 7}-b`]
      await (version % 5 === 4
        ? store.remove(ids)
        : store.put(ids.map((id) => testItem(id, version))))
    }
  }
  const writers = Promise.all([0, 1, 2].map(run))
  return async () => {
    isWriting = false
    await writers
  }
}

it('a copy during writes holds the complete items of one moment', async () => {
  await store.put(Array.from({ length: 200 }, (_, at) => testItem(`unchanged ${at}`)))
  const stop = writeEndlessly()
  try {
    for (let round = 0; round < 5; round += 1) {
      const target = join(folder, `copy ${round}`)
      const before = store.position
      const copied = await store.copyTo(target)
      expect(copied.position).toBeGreaterThanOrEqual(before)
      expect(copied.position).toBeLessThanOrEqual(store.position)
      expect(await readdir(target)).toEqual(['data.mdb'])

      const copy = await openItemStore({ folder: target, fingerprint: 'aaaa', readOnly: true })
      const items = [...copy.since(0)]
      expect(items).toHaveLength(copied.size)
      expect(items.at(-1)?.position ?? 0).toBeLessThanOrEqual(copied.position)
      for (const item of items) {
        const version = (item.payload as { version: number }).version
        const expected = testItem(item.id, version)
        expect(item).toMatchObject({
          payload: expected.payload,
          embedding: expected.embedding,
          imageTokens: expected.imageTokens,
        })
        expect(Buffer.compare(copy.image(item.id) ?? Buffer.of(), expected.image.bytes)).toBe(0)
        const partner = item.id.replace(/[ab]$/, (half) => (half === 'a' ? 'b' : 'a'))
        expect(copy.get(partner)?.payload ?? null, item.id).toMatchObject({ version })
      }
      await copy.close()
    }
  } finally {
    await stop()
  }
  expect(store.position).toBeGreaterThan(250)
})

it('a copy that is opened read-only rejects writes', async () => {
  await store.put([testItem('a')])
  await store.copyTo(join(folder, 'copy'))
  const copy = await openItemStore({
    folder: join(folder, 'copy'),
    fingerprint: null,
    readOnly: true,
  })
  await expect(Promise.resolve().then(() => copy.put([testItem('b')]))).rejects.toThrow()
  expect(copy.get('a')?.payload).toEqual(testItem('a').payload)
  await copy.close()
})

it('closing the store waits for a copy in progress', async () => {
  await store.put(Array.from({ length: 300 }, (_, at) => testItem(`item ${at}`)))
  const copying = store.copyTo(join(folder, 'copy'))
  await store.close()
  expect(await copying).toMatchObject({ size: 300, position: 300, fingerprint: 'aaaa' })
  store = await openItemStore({ folder: join(folder, 'store'), fingerprint: 'aaaa' })
})

it('a copy onto a full disk fails with storage_full', async (context) => {
  const disk = await smallDisk(1)
  if (disk === null) return context.skip('this process may not mount a disk')
  try {
    await store.put(Array.from({ length: 300 }, (_, at) => testItem(`item ${at}`)))
    await expect(store.copyTo(join(disk.folder, 'copy'))).rejects.toMatchObject({
      code: 'storage_full',
    })
  } finally {
    await disk.end()
  }
})
