import { createWriteStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { pack } from 'tar-stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readShards, shardsOf } from '../../src/cli/dataset.js'

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
  it('joins image and captions by key, in any order, across shards', async () => {
    const first = await shard('a.tar', {
      'x.jpg': 'X',
      'x.json': captions('one', 'two'),
      'd/y.json': captions('three'),
    })
    const second = await shard('b.tar', { 'd/y.jpg': 'Y' })
    const images = await readShards([first, second], 'en')
    expect(images.map(({ key, captions, mime }) => ({ key, captions, mime }))).toEqual([
      { key: 'x', captions: ['one', 'two'], mime: 'image/jpeg' },
      { key: 'd/y', captions: ['three'], mime: 'image/jpeg' },
    ])
    expect(Buffer.from(images[0]?.image ?? []).toString()).toBe('X')
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
