import { createWriteStream } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readShards, shardsOf } from '../../../src/cli/captions/dataset.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-test-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function shard(name: string, entries: Record<string, string>): Promise<string> {
  const tar = pack()
  for (const [entry, content] of Object.entries(entries)) tar.entry({ name: entry }, content)
  tar.finalize()
  const path = join(folder, name)
  await pipeline(tar, createWriteStream(path))
  return path
}

const captions = (...en: string[]): string => JSON.stringify({ captions: { en } })

describe('readShards', () => {
  it('joins image and captions of a shard by key, in any order', async () => {
    const path = await shard('a.tar', {
      'x.jpg': 'X',
      'x.json': captions('one', 'two'),
      'd/y.json': captions('three'),
      'd/y.jpg': 'Y',
    })
    const images = await readShards([path], 'en')
    expect(images.map(({ key, captions, mime }) => ({ key, captions, mime }))).toEqual([
      { key: 'x', captions: ['one', 'two'], mime: 'image/jpeg' },
      { key: 'd/y', captions: ['three'], mime: 'image/jpeg' },
    ])
    expect(Buffer.from(images[0]?.image ?? []).toString()).toBe('X')
  })

  it('takes equal keys in two shards for two images', async () => {
    const first = await shard('a.tar', { 'x.jpg': 'X', 'x.json': captions('one') })
    const second = await shard('b.tar', { 'x.json': captions('two'), 'x.jpg': 'Y' })
    const images = await readShards([first, second], 'en')
    expect(images.map(({ key, image, captions }) => [key, String(image), captions])).toEqual([
      ['x', 'X', ['one']],
      ['x', 'Y', ['two']],
    ])
  })

  it('names shard and key of a key that occurs twice in a shard', async () => {
    const tar = pack()
    for (const image of ['X', 'Y']) tar.entry({ name: 'x.jpg' }, image)
    tar.finalize()
    const path = join(folder, 'a.tar')
    await pipeline(tar, createWriteStream(path))
    await expect(readShards([path], 'en')).rejects.toThrow(/a\.tar: the key "x" occurs twice/)
  })

  it('ends a key at the first dot of the name, not of a folder', async () => {
    const path = await shard('a.tar', {
      'v1.2/x.small.jpg': 'X',
      'v1.2/x.small.json': captions('one'),
      'v1.2/._x.jpg': 'no image',
      'v1.2/x.txt': 'other data',
    })
    expect((await readShards([path], 'en')).map(({ key }) => key)).toEqual(['v1.2/x'])
  })

  it('reads a shard that is compressed with gzip', async () => {
    const path = await shard('a.tar', { 'x.jpg': 'X', 'x.json': captions('one') })
    await writeFile(`${path}.gz`, gzipSync(await readFile(path)))
    expect(await readShards([`${path}.gz`], 'en')).toHaveLength(1)
  })

  it.each([
    ['a checksum', 0],
    ['a checksum', 1024],
    ['zeros', 2048],
  ])('names shard and offset of a header damaged by %s at byte %i', async (kind, offset) => {
    const path = await shard('a.tar', {
      'x.jpg': 'X',
      'x.json': captions('one'),
      'y.jpg': 'Y',
      'y.json': captions('two'),
    })
    const bytes = await readFile(path)
    if (kind === 'zeros') bytes.fill(0, offset, offset + 512)
    else bytes.write('999999', offset + 148)
    await writeFile(path, bytes)
    await expect(readShards([path], 'en')).rejects.toThrow(
      new RegExp(`a\\.tar: damaged .* byte ${offset}:`),
    )
  })

  it.each([
    [2048, /a\.tar: cut off at byte 2048, where the end mark/],
    [1500, /a\.tar: damaged or cut off .* byte 1024/],
  ])('refuses a shard that ends at byte %i', async (length, message) => {
    const path = await shard('a.tar', { 'x.jpg': 'X', 'x.json': captions('one') })
    await writeFile(path, (await readFile(path)).subarray(0, length))
    await expect(readShards([path], 'en')).rejects.toThrow(message)
  })

  it('skips images without captions in the language', async () => {
    const path = await shard('a.tar', {
      'x.jpg': 'X',
      'x.json': JSON.stringify({ captions: { zh: ['狗'] } }),
    })
    expect(await readShards([path], 'en')).toEqual([])
    expect(await readShards([path], 'zh')).toHaveLength(1)
  })

  it.each([
    [
      { 'x.05.jpg': 'X', 'x.05.json': captions('one'), 'x.06.jpg': 'Y' },
      /a\.tar: the key "x" occurs twice, as x\.05\.jpg and x\.06\.jpg/,
    ],
    [{ 'x.jpg': 'X' }, /"x" has an image but no x\.json/],
    [{ 'x.json': captions('one') }, /"x" has captions but no image/],
    [
      { 'x.jpg': 'X', 'x.json': '{"captions":{"en":"one"}}' },
      /a\.tar: x\.json: captions\.en must be a list/,
    ],
    [{ 'x.jpg': 'X', 'x.json': '{' }, /a\.tar: x\.json/],
  ])('refuses %j', async (entries, message) => {
    const path = await shard('a.tar', entries)
    await expect(readShards([path], 'en')).rejects.toThrow(message)
  })
})

describe('shardsOf', () => {
  it('lists one shard, or the shards of a folder in order', async () => {
    const b = await shard('b.tar', {})
    const a = await shard('a.tar', {})
    await writeFile(join(folder, 'README'), 'x')
    expect(await shardsOf(a)).toEqual([a])
    expect(await shardsOf(folder)).toEqual([a, b])
  })

  it('refuses a folder without shards', async () => {
    await expect(shardsOf(folder)).rejects.toThrow(/has no \.tar shards/)
  })
})
