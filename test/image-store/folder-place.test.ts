import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openImageStore } from '../../src/image-store/open.js'
import { smallDisk } from '../support/small-disk.js'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-images-'))
})

afterEach(() => rm(folder, { recursive: true, force: true }))

const filesIn = async (place: string): Promise<string[]> =>
  (await readdir(place, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map(({ name }) => name)

describe('a folder of images', () => {
  it('that cannot be made is told when the store opens', async () => {
    const file = join(folder, 'a-file')
    await writeFile(file, 'in the way')
    await expect(
      openImageStore({ place: { folder: file }, collection: 'tandem', timeoutMs: 5000 }),
    ).rejects.toMatchObject({
      code: 'image_store_failed',
      message: expect.stringMatching(/cannot be used \(E[A-Z]+\)/) as string,
    })
  })

  it('lists what a put that was killed has left, to be removed', async () => {
    const store = await openImageStore({
      place: { folder: dirname(folder) },
      collection: basename(folder),
      timeoutMs: 5000,
    })
    const key = await store.put('killed', new Uint8Array(10))
    await writeFile(join(folder, `${key}.part`), 'half')
    await writeFile(join(folder, key.slice(0, 5), 'of somebody else.jpg'), 'not ours')
    const keys: string[] = []
    for await (const kept of store.list()) keys.push(kept.key)
    expect(keys.sort()).toEqual([key, `${key}.part`])
    await store.remove(`${key}.part`)
    expect(await filesIn(folder)).toEqual(expect.arrayContaining(['of somebody else.jpg']))
    expect(await filesIn(folder)).toHaveLength(2)
  })
})

const disk = await smallDisk(4)

describe.skipIf(disk === null)(
  'a folder of images on a disk that fills up (mounting is allowed)',
  () => {
    it('refuses what there is no room for, keeps nothing of it, and goes on when there is room', async () => {
      if (disk === null) throw new Error('unreachable')
      try {
        const store = await openImageStore({
          place: { folder: disk.folder },
          collection: 'images',
          timeoutMs: 5000,
        })
        const kept = await store.put('before', new Uint8Array(10_000))
        disk.fill()
        await expect(store.put('too much', new Uint8Array(100_000))).rejects.toMatchObject({
          code: 'storage_full',
        })
        expect(await filesIn(join(disk.folder, 'images'))).toHaveLength(1)
        expect(await store.get(kept)).toHaveLength(10_000)
        disk.makeRoom()
        await store.put('enough', new Uint8Array(100_000))
      } finally {
        await disk.end()
      }
    })
  },
)
