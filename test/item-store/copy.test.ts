/** A copy of a store that is written to meanwhile. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { ItemStore } from '../../src/item-store/item-store.js'
import { openItemStore } from '../../src/item-store/open.js'
import { smallDisk } from '../support/small-disk.js'
import { madeItem } from '../support/made-item.js'

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
 * Replaces and removes until it is told to stop. Items a and b of a number are always changed
 * together.
 */
function endlessWrites(): () => Promise<void> {
  let goOn = true
  const run = async (writer: number): Promise<void> => {
    for (let version = 1; goOn; version += 1) {
      const ids = [`${writer}-${version % 7}-a`, `${writer}-${version % 7}-b`]
      await (version % 5 === 4
        ? store.remove(ids)
        : store.put(ids.map((id) => madeItem(id, version))))
    }
  }
  const writers = Promise.all([0, 1, 2].map(run))
  return async () => {
    goOn = false
    await writers
  }
}

it('is of one moment, whole, while writes go on', async () => {
  await store.put(Array.from({ length: 200 }, (_, at) => madeItem(`still ${at}`)))
  const stop = endlessWrites()
  try {
    for (let round = 0; round < 5; round += 1) {
      const to = join(folder, `copy ${round}`)
      const before = store.position
      const copied = await store.copyTo(to)
      expect(copied.position).toBeGreaterThanOrEqual(before)
      expect(copied.position).toBeLessThanOrEqual(store.position)
      expect(await readdir(to)).toEqual(['data.mdb'])

      const copy = await openItemStore({ folder: to, fingerprint: 'aaaa', readOnly: true })
      const found = [...copy.since(0)]
      expect(found).toHaveLength(copied.size)
      expect(found.at(-1)?.position ?? 0).toBeLessThanOrEqual(copied.position)
      for (const item of found) {
        const version = (item.payload as { version: number }).version
        const made = madeItem(item.id, version)
        expect(item).toMatchObject({
          payload: made.payload,
          embedding: made.embedding,
          imageTokens: made.imageTokens,
        })
        expect(Buffer.compare(copy.image(item.id) ?? Buffer.of(), made.image.bytes)).toBe(0)
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

it('that is open for reading alone takes no write', async () => {
  await store.put([madeItem('a')])
  await store.copyTo(join(folder, 'copy'))
  const copy = await openItemStore({
    folder: join(folder, 'copy'),
    fingerprint: null,
    readOnly: true,
  })
  await expect(Promise.resolve().then(() => copy.put([madeItem('b')]))).rejects.toThrow()
  expect(copy.get('a')?.payload).toEqual(madeItem('a').payload)
  await copy.close()
})

it('is waited for by a close', async () => {
  await store.put(Array.from({ length: 300 }, (_, at) => madeItem(`item ${at}`)))
  const copied = store.copyTo(join(folder, 'copy'))
  await store.close()
  expect(await copied).toMatchObject({ size: 300, position: 300, fingerprint: 'aaaa' })
  store = await openItemStore({ folder: join(folder, 'store'), fingerprint: 'aaaa' })
})

it('fails with storage_full where its disk is', async (context) => {
  const disk = await smallDisk(1)
  if (disk === null) return context.skip('this process may not mount a disk')
  try {
    await store.put(Array.from({ length: 300 }, (_, at) => madeItem(`item ${at}`)))
    await expect(store.copyTo(join(disk.folder, 'copy'))).rejects.toMatchObject({
      code: 'storage_full',
    })
  } finally {
    await disk.end()
  }
})
