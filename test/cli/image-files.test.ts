import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Value } from 'typebox/value'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { idOfPath, mimeOf, imageFiles } from '../../src/cli/image-files.js'
import { Id } from '../../src/http/schemas/fields.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-test-'))
})
afterEach(() => rm(folder, { recursive: true }))

const never = (path: string, reason: string): void => {
  throw new Error(`${path}: ${reason}`)
}

describe('imageFiles', () => {
  it('finds images below the folder by extension, sorted, and counts the others', async () => {
    await mkdir(join(folder, 'b', 'deep'), { recursive: true })
    for (const name of ['z.JPG', 'b/deep/a.webp', 'b/notes.txt', 'README'])
      await writeFile(join(folder, name), 'x')
    const { images, others } = await imageFiles(folder, never)
    expect(images.map(({ path, mime }) => [path, mime])).toEqual([
      ['b/deep/a.webp', 'image/webp'],
      ['z.JPG', 'image/jpeg'],
    ])
    expect(others).toBe(2)
  })

  it('ignores hidden files and folders', async () => {
    await mkdir(join(folder, '.cache'))
    for (const name of ['.cache/a.jpg', '.b.jpg', 'c.jpg']) await writeFile(join(folder, name), 'x')
    expect((await imageFiles(folder, never)).images.map(({ path }) => path)).toEqual(['c.jpg'])
  })

  it('follows links to files, not to folders, and reports a broken link', async () => {
    await writeFile(join(folder, 'a.jpg'), 'x')
    await symlink(join(folder, 'a.jpg'), join(folder, 'b.jpg'))
    await symlink(folder, join(folder, 'loop.jpg'))
    await symlink(join(folder, 'gone'), join(folder, 'c.jpg'))
    const unreadable: string[] = []
    const { images } = await imageFiles(folder, (path) => unreadable.push(path))
    expect(images.map(({ path }) => path)).toEqual(['a.jpg', 'b.jpg'])
    expect(unreadable).toEqual(['c.jpg'])
  })

  it('rejects for a folder that does not exist', async () => {
    await expect(imageFiles(join(folder, 'none'), never)).rejects.toThrow(/ENOENT/)
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

describe('idOfPath', () => {
  it.each(['a.jpg', 'über/ß 狗.jpg', "it's (1) #2 & 100%.png"])('keeps %j', (path) => {
    expect(idOfPath(path)).toBe(path)
  })

  it.each([' space.jpg', 'tab\there.jpg', `${'long/'.repeat(100)}a.jpg`, 'line\u2028sep.jpg'])(
    'turns %j into a valid id',
    (path) => {
      expect(Value.Check(Id, path)).toBe(false)
      expect(Value.Check(Id, idOfPath(path))).toBe(true)
    },
  )

  it('gives different ids to paths that are changed alike', () => {
    expect(idOfPath('a\tb.jpg')).not.toBe(idOfPath('a\nb.jpg'))
  })
})
