/** The store on a disk that is full, and on one that turns read-only while it is open. */
import { afterEach, describe, expect, it, type TestContext } from 'vitest'
import type { ItemStore } from '../../src/item-store/item-store.js'
import { openItemStore } from '../../src/item-store/open.js'
import { breakableDisk, smallDisk, type Disk } from '../support/small-disk.js'
import { madeItem } from '../support/made-item.js'

const opened: { close?(): Promise<void>; end?(): Promise<void> }[] = []

afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await (one.close?.() ?? one.end?.())
})

/** Skips the test where no disk can be mounted. */
function required<Found extends Disk>(disk: Found | null, { skip }: TestContext): Found {
  if (disk === null) skip('this process may not mount a disk')
  opened.push(disk as Found)
  return disk as Found
}

async function storeOn({ folder }: Disk): Promise<ItemStore> {
  const store = await openItemStore({ folder, fingerprint: 'aaaa' })
  opened.push(store)
  await store.put(Array.from({ length: 20 }, (_, at) => madeItem(`before ${at}`)))
  return store
}

function expectReads(store: ItemStore): void {
  expect(store.size).toBe(20)
  expect(store.get('before 3')?.payload).toEqual(madeItem('before 3').payload)
  expect(store.list({ limit: 100 })).toHaveLength(20)
}

describe('a full disk', () => {
  it('refuses writes with storage_full, goes on reading, and recovers when there is room', async (context) => {
    const disk = required(await smallDisk(8), context)
    const store = await storeOn(disk)
    disk.fill()
    // Several share a commit, which fails for each of them.
    const alone = [store.put([madeItem('alone')])]
    const together = Array.from({ length: 10 }, (_, at) => store.put([madeItem(`more ${at}`)]))
    for (const outcome of await Promise.allSettled([...alone, ...together])) {
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: { code: 'storage_full', status: 507 },
      })
    }
    expectReads(store)
    disk.makeRoom()
    expect(await store.put([madeItem('after')])).toEqual({ position: 21, replaced: 0 })
    expect(await store.remove(['before 0'])).toMatchObject({ removed: ['before 0'] })
  })

  it('opens there, and reads', async (context) => {
    const disk = required(await smallDisk(8), context)
    await (await storeOn(disk)).close()
    disk.fill()
    const store = await openItemStore({ folder: disk.folder, fingerprint: 'aaaa' })
    opened.push(store)
    expectReads(store)
  })
})

describe('a disk that turned read-only', () => {
  it('refuses writes with storage_read_only and goes on reading', async (context) => {
    const disk = required(await breakableDisk(16), context)
    const store = await storeOn(disk)
    await disk.break()
    for (const write of [() => store.put([madeItem('more')]), () => store.remove(['before 1'])]) {
      await expect(write()).rejects.toMatchObject({ code: 'storage_read_only', status: 503 })
    }
    expectReads(store)
  })
})

describe('a read-only disk', () => {
  it('is not started on, with a sentence that says why, and a copy on it can be read', async (context) => {
    const disk = required(await smallDisk(8), context)
    await (await storeOn(disk)).close()
    await disk.makeReadOnly()
    const refused = openItemStore({ folder: disk.folder, fingerprint: 'aaaa' })
    await expect(refused).rejects.toThrow(/cannot be opened: .*read-only file system/i)
    const store = await openItemStore({ folder: disk.folder, fingerprint: null, readOnly: true })
    opened.push(store)
    expectReads(store)
  })
})
