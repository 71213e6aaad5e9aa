import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { verifyPages } from '../../src/item-store/lmdb-pages.js'
import { openItemStore } from '../../src/item-store/open.js'
import { testItem } from '../support/test-item.js'

const PAGE = 4096
let folder: string
let file: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-pages-'))
  file = join(folder, 'data.mdb')
  const store = await openItemStore({ folder, fingerprint: 'aaaa' })
  for (let version = 0; version < 4; version += 1)
    await store.put(Array.from({ length: 150 }, (_, at) => testItem(`item ${at}`, version)))
  await store.remove(Array.from({ length: 40 }, (_, at) => `item ${at * 3}`))
  await store.close()
})
afterEach(() => rm(folder, { recursive: true }))

async function changed(change: (bytes: Buffer) => void): Promise<void> {
  const bytes = await readFile(file)
  change(bytes)
  await writeFile(file, bytes)
}

/** Every page with these flags: some are free. */
function pagesOf(bytes: Buffer, flags: number): number[] {
  const pages = Array.from({ length: bytes.length / PAGE - 2 }, (_, at) => (at + 2) * PAGE)
  return pages.filter((at) => bytes.readUInt16LE(at + 18) === flags)
}

describe('the pages of a store', () => {
  it('are sound after writes, removals and a copy', async () => {
    verifyPages(file)
    const store = await openItemStore({ folder, fingerprint: 'aaaa' })
    await store.copyTo(join(folder, 'copy'))
    await store.close()
    verifyPages(join(folder, 'copy', 'data.mdb'))
  })

  it.each([1, PAGE - 1, PAGE, 2 * PAGE, 30 * PAGE, 200 * PAGE])(
    'are found damaged when %i bytes are left',
    async (bytes) => {
      await truncate(file, bytes)
      expect(() => verifyPages(file)).toThrow(/missing|cut off/)
      await expect(openItemStore({ folder, fingerprint: 'aaaa' })).rejects.toThrow(
        /item store in .* is damaged: .* restore a backup/,
      )
    },
  )

  it.each<[string, RegExp, (bytes: Buffer) => void]>([
    ['a first page of zeros', /first page/, (bytes) => bytes.fill(0, 0, PAGE)],
    ['a second page of zeros', /page 1 is not/, (bytes) => bytes.fill(0, PAGE, 2 * PAGE)],
    ['a transaction of another number', /two transactions/, (bytes) => (bytes[152] = 250)],
    [
      'branches of zeros',
      /overwritten/,
      (bytes) => {
        for (const at of pagesOf(bytes, 1)) bytes.fill(0, at, at + PAGE)
      },
    ],
    [
      'leaves that count more nodes',
      /overwritten/,
      (bytes) => {
        for (const at of pagesOf(bytes, 2)) bytes.writeUInt16LE(4000, at + 20)
      },
    ],
  ])('are found damaged by %s', async (_, sentence, change) => {
    await changed(change)
    expect(() => verifyPages(file)).toThrow(sentence)
  })
})

describe('an item of a store', () => {
  it('whose image, record or encoding has a flipped bit is found, and no wrong image is read', async () => {
    let store = await openItemStore({ folder, fingerprint: 'aaaa' })
    const [first, third] = [testItem('item 1', 5), testItem('item 7', 5)]
    first.image.bytes = randomBytes(5000)
    third.imageTokens = new Int8Array(randomBytes(40))
    await store.put([first, third])
    await store.close()
    const flips: [Buffer, number][] = [
      [Buffer.from(first.image.bytes), 50],
      [Buffer.from('"title":"photo item 4"'), 12],
      [Buffer.from(third.imageTokens), 20],
    ]
    await changed((bytes) => {
      for (const [content, offset] of flips)
        for (let at = bytes.indexOf(content); at >= 0; at = bytes.indexOf(content, at + 1))
          bytes[at + offset] = (bytes[at + offset] ?? 0) ^ 2
    })
    store = await openItemStore({ folder, fingerprint: 'aaaa' })
    expect(store.verify()).toEqual({
      damaged: ['item 1', 'item 4', 'item 7'],
      withoutDigest: 0,
      orphans: [],
    })
    expect(() => store.image('item 1')).toThrow(/image of "item 1" is not the one that was stored/)
    expect(store.image('item 2')).toBeDefined()
    await store.close()
  })
})
