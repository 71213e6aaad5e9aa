import { mkdir, mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Value } from 'typebox/value'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { mimeOf, imageFiles } from '../../../src/cli/indexing/image-files.js'
import { Id } from '../../../src/http/schemas/fields.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-test-'))
})
afterEach(() => rm(folder, { recursive: true }))

describe('imageFiles', () => {
  it('finds images below the folder by extension, sorted, and names the others', async () => {
    await mkdir(join(folder, 'b', 'deep'), { recursive: true })
    for (const name of ['z.JPG', 'b/deep/a.webp', 'b/notes.txt', 'README'])
      await writeFile(join(folder, name), 'x')
    const { root, images, leftOut, unreadable } = await imageFiles(folder)
    expect(root).toBe(await realpath(folder))
    expect(images.map(({ path, mime, size }) => [path, mime, size])).toEqual([
      ['b/deep/a.webp', 'image/webp', 1],
      ['z.JPG', 'image/jpeg', 1],
    ])
    const reason = 'its extension is not one of an image'
    expect(leftOut).toEqual([
      { path: 'README', reason },
      { path: 'b/notes.txt', reason },
    ])
    expect(unreadable).toEqual([])
  })

  it('leaves out hidden files, and folders of thumbnails, packages and archives', async () => {
    const folders = ['.git', '@eaDir', '__MACOSX', 'b/@eaDir', 'node_modules']
    for (const name of folders) {
      await mkdir(join(folder, name), { recursive: true })
      await writeFile(join(folder, name, 'a.jpg'), 'x')
    }
    for (const name of ['.b.jpg', 'c.jpg']) await writeFile(join(folder, name), 'x')
    const { images, leftOut } = await imageFiles(folder)
    expect(images.map(({ path }) => path)).toEqual(['c.jpg'])
    expect(leftOut.map(({ path }) => path).sort()).toEqual(['.b.jpg', ...folders])
  })

  it('leaves out the previews of photo libraries, not their originals', async () => {
    const previews = [
      'Family.photoslibrary/resources',
      'old/2010.photolibrary/Thumbnails',
      'old/Work.aplibrary/Previews',
      'old/Catalog Previews.lrdata',
    ]
    const originals = [
      'Family.photoslibrary/originals',
      'old/2010.photolibrary/Masters',
      'resources',
    ]
    for (const name of [...previews, ...originals]) {
      await mkdir(join(folder, name), { recursive: true })
      await writeFile(join(folder, name, 'a.jpg'), 'x')
    }
    const { images, leftOut } = await imageFiles(folder)
    expect(images.map(({ path }) => path)).toEqual(originals.map((name) => `${name}/a.jpg`))
    expect(leftOut.map(({ path }) => path).sort()).toEqual(previews.toSorted())
  })

  it('reports an empty image file, which it does not send', async () => {
    await writeFile(join(folder, 'a.jpg'), '')
    const { images, unreadable } = await imageFiles(folder)
    expect(images).toEqual([])
    expect(unreadable).toEqual([{ path: 'a.jpg', reason: 'it is empty' }])
  })

  it.each([
    ['raw', ['a.jpg', 'b/c.gif', 'b/d.jpg']],
    ['*.gif', ['a.jpg', 'b/d.jpg', 'b/raw/e.jpg']],
    ['b/*.jpg', ['a.jpg', 'b/c.gif', 'b/raw/e.jpg']],
    ['b/**/*.jpg', ['a.jpg', 'b/c.gif']],
    ['b/', ['a.jpg']],
    ['?.jpg', ['b/c.gif']],
    ['a.j.g', ['a.jpg', 'b/c.gif', 'b/d.jpg', 'b/raw/e.jpg']],
  ])('leaves out what matches %s', async (pattern, expected) => {
    await mkdir(join(folder, 'b', 'raw'), { recursive: true })
    for (const name of ['a.jpg', 'b/c.gif', 'b/d.jpg', 'b/raw/e.jpg'])
      await writeFile(join(folder, name), 'x')
    const { images } = await imageFiles(folder, [pattern])
    expect(images.map(({ path }) => path)).toEqual(expected)
  })

  it('takes one file, with the id that it has in its folder', async () => {
    for (const name of ['a.jpg', 'b.jpg']) await writeFile(join(folder, name), 'x')
    const [whole, one] = [await imageFiles(folder), await imageFiles(join(folder, 'a.jpg'))]
    expect(one.images).toEqual(whole.images.slice(0, 1))
    expect(one.root).toBe(whole.root)
  })

  it('finds the sidecar of an image, XMP first, and does not leave it out', async () => {
    const names = ['a.jpg', 'a.txt', 'a.jpg.XMP', 'b.png', 'b.png.supplemental-meta.json', 'c.jpg']
    for (const name of [...names, 'd.json']) await writeFile(join(folder, name), 'x')
    const { images, leftOut } = await imageFiles(folder)
    expect(images.map(({ path, sidecar }) => [path, sidecar?.name, sidecar?.kind])).toEqual([
      ['a.jpg', 'a.jpg.XMP', 'xmp'],
      ['b.png', 'b.png.supplemental-meta.json', 'json'],
      ['c.jpg', undefined, undefined],
    ])
    expect(leftOut.map(({ path }) => path)).toEqual(['d.json'])
  })

  it('finds files whose names are not UTF-8, each with an id of its own', async () => {
    const names = [Buffer.from('caf\xe9.jpg', 'latin1'), Buffer.from('caf\xe8.jpg', 'latin1')]
    for (const name of names) await writeFile(Buffer.concat([Buffer.from(`${folder}/`), name]), 'x')
    await writeFile(join(folder, 'caf\\xE9.jpg'), 'x')
    const { images } = await imageFiles(folder)
    expect(images.map(({ path }) => path)).toEqual(['caf\\xE9.jpg', 'caf\\xE8.jpg', 'caf\\xE9.jpg'])
    expect(new Set(images.map(({ id }) => id)).size).toBe(3)
    for (const { file, id } of images) {
      expect(await readFile(file, 'utf8')).toBe('x')
      expect(Value.Check(Id, id)).toBe(true)
    }
    await expect(imageFiles(join(folder, 'caf\ufffd.jpg'))).rejects.toThrow(
      'A name that is not UTF-8 cannot be an argument: index its folder.',
    )
  })

  it('follows links to files, not to folders, and reports a broken link', async () => {
    await writeFile(join(folder, 'a.jpg'), 'x')
    await symlink(join(folder, 'a.jpg'), join(folder, 'b.jpg'))
    await symlink(folder, join(folder, 'loop.jpg'))
    await symlink(join(folder, 'gone'), join(folder, 'c.jpg'))
    await symlink('d.jpg', join(folder, 'd.jpg'))
    const { images, leftOut, unreadable } = await imageFiles(folder)
    expect(images.map(({ path }) => path)).toEqual(['a.jpg', 'b.jpg'])
    expect(leftOut).toEqual([{ path: 'loop.jpg', reason: 'it is a link to a folder' }])
    expect(unreadable).toEqual([
      { path: 'c.jpg', reason: 'it is a link to a file that does not exist' },
      { path: 'd.jpg', reason: 'it is a link that leads to itself' },
    ])
  })

  it('rejects for a folder that does not exist', async () => {
    await expect(imageFiles(join(folder, 'none'))).rejects.toThrow(/ENOENT/)
  })
})

describe('mimeOf', () => {
  it('reads the last extension only', () => {
    expect(mimeOf('a.jpg.txt')).toBeUndefined()
    expect(mimeOf('a.b.jpeg')).toBe('image/jpeg')
    expect(mimeOf('jpg')).toBeUndefined()
    expect(mimeOf('folder.jpg/file')).toBeUndefined()
  })
})

it.each([
  ['a.jfif', 'image/jpeg'],
  ['a.JIF', 'image/jpeg'],
  ['a.pjpeg', 'image/jpeg'],
  ['a.apng', 'image/png'],
])('%s is an image', (name, mime) => {
  expect(mimeOf(name)).toBe(mime)
})
