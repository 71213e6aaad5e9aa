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

const filesIn = async (path: string): Promise<string[]> =>
  (await readdir(path, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map(({ name }) => name)

describe('a folder of images', () => {
  it('that cannot be created causes an error when the store opens', async () => {
    const file = join(folder, 'a-file')
    await writeFile(file, 'not a folder')
    await expect(
      openImageStore({ place: { folder: file }, collection: 'tandem', timeoutMs: 5000 }),
    ).rejects.toMatchObject({
      code: 'image_store_failed',
      message: expect.stringMatching(/cannot be used \(E[A-Z]+\)/) as string,
    })
  })

  it('lists the remains of an interrupted put, so that they can be removed', async () => {
    const store = await openImageStore({
      place: { folder: dirname(folder) },
      collection: basename(folder),
      timeoutMs: 5000,
    })
    const key = await store.put('interrupted', new Uint8Array(10))
    await writeFile(join(folder, `${key}.part`), 'half')
    await writeFile(join(folder, key.slice(0, 5), 'of another program.jpg'), 'unrelated')
    const keys: string[] = []
    for await (const image of store.list()) keys.push(image.key)
    expect(keys.sort()).toEqual([key, `${key}.part`])
    await store.remove(`${key}.part`)
    expect(await filesIn(folder)).toEqual(expect.arrayContaining(['of another program.jpg']))
    expect(await filesIn(folder)).toHaveLength(2)
  })
})

const disk = await smallDisk(4)

describe.skipIf(disk === null)('a folder of images on a full disk', () => {
  it('refuses an image, leaves no part of it, and accepts images once there is space', async () => {
    if (disk === null) throw new Error('unreachable')
    try {
      const store = await openImageStore({
        place: { folder: disk.folder },
        collection: 'images',
        timeoutMs: 5000,
      })
      const key = await store.put('before', new Uint8Array(10_000))
      disk.fill()
      await expect(store.put('too much', new Uint8Array(100_000))).rejects.toMatchObject({
        code: 'storage_full',
      })
      expect(await filesIn(join(disk.folder, 'images'))).toHaveLength(1)
      expect(await store.get(key)).toHaveLength(10_000)
      disk.freeSpace()
      await store.put('enough', new Uint8Array(100_000))
    } finally {
      await disk.end()
    }
  })
})
