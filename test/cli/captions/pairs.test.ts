import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Client, StoredItem } from '../../../src/cli/client.js'
import {
  payloadPairs,
  readCsvPairs,
  withFiles,
  withStoredImages,
} from '../../../src/cli/captions/pairs.js'

let folder = ''
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'tandem-pairs-'))))
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function written(name: string, content: string): string {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}

it.each([
  ['a.csv', '\ufeffimage,text\na.jpg,a dog\nb.jpg,"a ""red"" car, parked"\na.jpg,the dog\n'],
  ['without-head.csv', 'a.jpg,a dog\nb.jpg,"a ""red"" car, parked"\na.jpg,the dog\n'],
  [
    'other-order.csv',
    'id,Caption,FilePath\n1,a dog,a.jpg\n2,"a ""red"" car, parked",b.jpg\n1,the dog,a.jpg\n',
  ],
  ['tabs.tsv', 'filepath\ttitle\na.jpg\ta dog\nb.jpg\t"a ""red"" car, parked"\r\na.jpg\tthe dog\n'],
])('%s gives the texts of each image', async (name, content) => {
  expect(await readCsvPairs(written(name, content))).toEqual([
    { image: 'a.jpg', texts: ['a dog', 'the dog'] },
    { image: 'b.jpg', texts: ['a "red" car, parked'] },
  ])
})

it('A file that is no table is refused with its line', async () => {
  await expect(readCsvPairs(written('a.csv', 'image,text\na.jpg,"a dog\n'))).rejects.toThrow(
    /a\.csv cannot be read: .*[Qq]uote.*line/s,
  )
  await expect(readCsvPairs(written('b.csv', 'image,text\n'))).rejects.toThrow(/has no row/)
})

it('Images lie relative to the table, and missing ones are named', async () => {
  const csv = written('a.csv', '')
  written('a.jpg', 'bytes')
  const [found] = await withFiles(csv, [{ image: 'a.jpg', texts: ['a dog'] }])
  expect(Buffer.from(found?.image ?? []).toString()).toBe('bytes')
  await expect(withFiles(csv, [{ image: 'b.jpg', texts: ['a dog'] }])).rejects.toThrow(
    /1 of 1 images .* missing, such as .*b\.jpg.*--stored/,
  )
})

it('Stored items give the texts of a field of their payload', async () => {
  const items = [
    { id: 'a', payload: { caption: 'a dog' } },
    { id: 'b', payload: null },
    { id: 'c', payload: { caption: ['a cat', 7, ''] } },
    { id: 'd', payload: { caption: 3 } },
  ] as unknown as StoredItem[]
  const client = {
    async *items() {
      yield* await Promise.resolve(items)
    },
    image: (id: string) => Promise.resolve(Buffer.from(id)),
  } as unknown as Client
  const pairs = await payloadPairs(client, 'caption', 10)
  expect(pairs).toEqual([
    { image: 'a', texts: ['a dog'] },
    { image: 'c', texts: ['a cat'] },
  ])
  expect((await withStoredImages(client, pairs)).map(({ image }) => String(image))).toEqual([
    'a',
    'c',
  ])
  await expect(payloadPairs(client, 'title', 10)).rejects.toThrow(/No stored item has a text under/)
})
