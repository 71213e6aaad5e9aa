/** The store on a full disk, and on one that becomes read-only while the store is open. */
import { afterEach, describe, expect, it, type TestContext } from 'vitest'
import type { ItemStore } from '../../src/item-store/item-store.js'
import { openItemStore } from '../../src/item-store/open.js'
import { breakableDisk, smallDisk, type Disk } from '../support/small-disk.js'
import { testItem } from '../support/test-item.js'

const opened: { close?(): Promise<void>; end?(): Promise<void> }[] = []

afterEach(async () => {
  for (const resource of opened.splice(0).reverse()) await (resource.close?.() ?? resource.end?.())
})

/** Skips the test where no disk can be mounted. */
function required<Mounted extends Disk>(disk: Mounted | null, { skip }: TestContext): Mounted {
  if (disk === null) skip('this process may not mount a disk')
  opened.push(disk as Mounted)
  return disk as Mounted
}

async function storeOn({ folder }: Disk): Promise<ItemStore> {
  const store = await openItemStore({ folder, fingerprint: 'aaaa' })
  opened.push(store)
  await store.put(Array.from({ length: 20 }, (_, at) => testItem(`before ${at}`)))
  return store
}

function expectReads(store: ItemStore): void {
  expect(store.size).toBe(20)
  expect(store.get('before 3')?.payload).toEqual(testItem('before 3').payload)
  expect(store.list({ limit: 100 })).toHaveLength(20)
}

describe('on a full disk', () => {
  it('the store refuses writes with storage_full, still reads, and writes again once there is space', async (context) => {
    const disk = required(await smallDisk(8), context)
    const store = await storeOn(disk)
    disk.fill()
    // Concurrent writes share a commit, which fails for each of them.
    const single = [store.put([testItem('single')])]
    const concurrent = Array.from({ length: 10 }, (_, at) => store.put([testItem(`more ${at}`)]))
    for (const outcome of await Promise.allSettled([...single, ...concurrent])) {
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: { code: 'storage_full', status: 507 },
      })
    }
    expectReads(store)
    disk.freeSpace()
    expect(await store.put([testItem('after')])).toEqual({ position: 21, replaced: 0 })
    expect(await store.remove(['before 0'])).toMatchObject({ removed: ['before 0'] })
  })

  it('the store opens and reads', async (context) => {
    const disk = required(await smallDisk(8), context)
    await (await storeOn(disk)).close()
    disk.fill()
    const store = await openItemStore({ folder: disk.folder, fingerprint: 'aaaa' })
    opened.push(store)
    expectReads(store)
  })
})

describe('on a disk that becomes read-only', () => {
  it('the store refuses writes with storage_read_only and still reads', async (context) => {
    const disk = required(await breakableDisk(16), context)
    const store = await storeOn(disk)
    await disk.break()
    for (const write of [() => store.put([testItem('more')]), () => store.remove(['before 1'])]) {
      await expect(write()).rejects.toMatchObject({ code: 'storage_read_only', status: 503 })
    }
    expectReads(store)
  })
})

describe('on a read-only disk', () => {
  it('the store does not open for writing, names the reason, and opens read-only', async (context) => {
    const disk = required(await smallDisk(8), context)
    await (await storeOn(disk)).close()
    await disk.makeReadOnly()
    const opening = openItemStore({ folder: disk.folder, fingerprint: 'aaaa' })
    await expect(opening).rejects.toThrow(/cannot be opened: .*read-only file system/i)
    const store = await openItemStore({ folder: disk.folder, fingerprint: null, readOnly: true })
    opened.push(store)
    expectReads(store)
  })
})
