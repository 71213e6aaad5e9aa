/** Migration of a store of the first format, also when the process ends before it is complete. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { open } from 'lmdb'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { NewItem } from '../../src/item-store/item-store.js'
import { openItemStore } from '../../src/item-store/open.js'
import { testItem } from '../support/test-item.js'

const ITEMS = 1300
const ADDED_AT = '2020-01-02T03:04:05.678Z'
const idOf = (at: number): string => `item ${String(at).padStart(4, '0')}`

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-migration-'))
  await createFirstStore()
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** With a small image, because there are many items. */
function smallItem(id: string): NewItem {
  const item = testItem(id)
  return { ...item, image: { ...item.image, bytes: item.image.bytes.subarray(0, 10) } }
}

/** A record as the first version wrote it. */
function firstRecord(
  { embedding, imageTokens, payload, image: { bytes, ...image } }: NewItem,
  position: number,
): Buffer {
  const header = Buffer.alloc(16)
  header.writeDoubleLE(position, 0)
  header.writeUInt32LE(embedding.length, 8)
  header.writeUInt32LE(imageTokens.length, 12)
  const rest = { payload, picture: { ...image, size: bytes.length }, addedAt: ADDED_AT }
  return Buffer.concat([
    header,
    new Uint8Array(embedding.buffer),
    new Uint8Array(imageTokens.buffer),
    Buffer.from(JSON.stringify(rest)),
  ])
}

async function createFirstStore(): Promise<void> {
  const root = open({ path: folder, noSubdir: false })
  const tables = ['items', 'pictures'].map((name) =>
    root.openDB<Buffer, string>({ name, encoding: 'binary' }),
  )
  const changes = root.openDB<string, number>({ name: 'changes', encoding: 'string' })
  const about = root.openDB<unknown, string>({ name: 'about', encoding: 'json' })
  await root.transaction(() => {
    for (let position = 1; position <= ITEMS; position += 1) {
      // The order of changes differs from the order of ids.
      const item = smallItem(idOf(ITEMS - position))
      void tables[0]?.put(item.id, firstRecord(item, position))
      void tables[1]?.put(item.id, Buffer.from(item.image.bytes))
      void changes.put(position, item.id)
    }
    void about.put('position', ITEMS)
    void about.put('stamp', { format: 1, fingerprint: 'aaaa' })
  })
  await root.close()
}

it('a migration that was interrupted continues where it ended and loses no item', async () => {
  const interrupted = openItemStore({
    folder,
    fingerprint: 'aaaa',
    onMigration: () => {
      throw new Error('interrupted')
    },
  })
  await expect(interrupted).rejects.toThrow('interrupted')

  let migrated = 0
  const store = await openItemStore({
    folder,
    fingerprint: 'aaaa',
    name: 'tiny',
    onMigration: (items) => (migrated = items),
  })
  try {
    expect(migrated).toBeGreaterThan(0)
    expect(migrated).toBeLessThan(ITEMS)
    expect(store.size).toBe(ITEMS)
    expect(store.bundles.serving).toEqual({ name: 'tiny', fingerprint: 'aaaa' })
    const items = [...store.since(0)]
    expect(items.map(({ id }) => id)).toEqual(
      Array.from({ length: ITEMS }, (_, at) => idOf(ITEMS - 1 - at)),
    )
    for (const { id, payload, embedding, imageTokens, image, addedAt } of items) {
      const expected = smallItem(id)
      expect({ payload, embedding, imageTokens }).toEqual({
        payload: expected.payload,
        embedding: expected.embedding,
        imageTokens: expected.imageTokens,
      })
      expect(addedAt).toBe(ADDED_AT)
      expect(image).toEqual({ mime: 'image/jpeg', width: 512, height: 300, size: 10 })
      expect(Uint8Array.from(store.image(id) ?? [])).toEqual(expected.image.bytes)
    }
  } finally {
    await store.close()
  }
})

it('a migrated store accepts replacements and removals', async () => {
  const store = await openItemStore({ folder, fingerprint: 'aaaa' })
  try {
    expect(await store.put([testItem(idOf(7), 3)])).toEqual({ position: ITEMS + 1, replaced: 1 })
    expect(await store.remove([idOf(8)])).toEqual({ position: ITEMS + 2, removed: [idOf(8)] })
    expect(store.size).toBe(ITEMS - 1)
    expect(store.get(idOf(7))?.payload).toEqual(testItem(idOf(7), 3).payload)
    expect([...store.since(ITEMS)].map(({ id }) => id)).toEqual([idOf(7)])
  } finally {
    await store.close()
  }
})
