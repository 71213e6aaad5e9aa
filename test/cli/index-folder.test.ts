import { createHash } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import { mkdir, mkdtemp, realpath, rename, rm, truncate, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { Client } from '../../src/cli/client.js'
import { idOfFile } from '../../src/cli/indexing/file-ids.js'
import { indexImages, listImages, watchImages } from '../../src/cli/index-folder.js'
import {
  summaryLine,
  type IndexOptions,
  type IndexOutcome,
} from '../../src/cli/indexing/indexer.js'
import { MetadataReader } from '../../src/cli/indexing/metadata-reader.js'

/** A service that stores items, and refuses images whose bytes say so. */
class Stored {
  readonly items = new Map<string, { payload: unknown }>()
  puts = 0
  busy = 0
  full = false
  server: Server = createServer((request, reply) => {
    const answer = (status: number, body: unknown, headers = {}): void => {
      reply
        .writeHead(status, { 'content-type': 'application/json', ...headers })
        .end(JSON.stringify(body))
    }
    const url = new URL(request.url ?? '', 'http://service')
    const id = decodeURIComponent(url.pathname.replace('/items/', ''))
    void buffer(request).then((body) => {
      if (url.pathname === '/health/live') return answer(200, {})
      if (url.pathname === '/items')
        return answer(200, {
          items: [...this.items].sort().map(([id, item]) => ({ id, ...item })),
          next: null,
        })
      const item = this.items.get(id)
      const isForm = request.headers['content-type']?.startsWith('multipart/form-data') === true
      const inForm = /name="payload"\r\n\r\n([^\r]*)\r\n/.exec(body.toString())?.[1]
      if (request.method === 'GET')
        return item ? answer(200, { id, ...item }) : answer(404, { detail: 'none' })
      if (request.method === 'DELETE') return answer(this.items.delete(id) ? 204 : 404, {})
      if (this.full) return answer(507, { detail: 'no space is left' })
      if (this.busy > 0) {
        this.busy -= 1
        return answer(503, { detail: 'busy' }, { 'retry-after': '0' })
      }
      if (body.toString() === 'broken')
        return answer(422, { detail: 'The image cannot be decoded.' })
      this.puts += 1
      this.items.set(id, {
        payload: JSON.parse((isForm ? inForm : url.searchParams.get('payload')) ?? 'null'),
      })
      answer(201, {})
    })
  })
}

let metadata: MetadataReader
beforeAll(async () => {
  metadata = await MetadataReader.open()
})
afterAll(() => metadata.close())

let folder: string
let stored: Stored
let client: Client
let lines: string[]
const terminal = { out: new PassThrough(), err: new PassThrough() }

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-test-'))
  stored = new Stored()
  stored.server.listen(0, '127.0.0.1')
  await once(stored.server, 'listening')
  client = new Client(`http://127.0.0.1:${(stored.server.address() as AddressInfo).port}`)
  lines = []
  terminal.err = new PassThrough().on('data', (chunk: Buffer) => lines.push(chunk.toString()))
})
afterEach(async () => {
  stored.server.closeAllConnections()
  stored.server.close()
  await rm(folder, { recursive: true })
})

async function write(files: Record<string, string>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, '..'), { recursive: true })
    await writeFile(join(folder, name), content)
  }
}

function index(
  below: string | string[] = '',
  options: Partial<IndexOptions> = {},
): Promise<IndexOutcome> {
  const paths = [below].flat().map((path) => join(folder, path))
  return indexImages(client, metadata, paths, terminal, { maxBytes: 1000, ...options })
}

const idOf = async (below: string, path: string): Promise<string> =>
  idOfFile(await realpath(join(folder, below)), path)

describe('folders with equal file names', () => {
  it('keep their files apart, in one run and in several', async () => {
    await write({ 'x/A/1.jpg': 'one', 'y/A/1.jpg': 'two', 'z/1.jpg': 'three' })
    expect(await index(['x/A', 'y/A'])).toMatchObject({ added: 2, replaced: 0 })
    expect(await index('z')).toMatchObject({ added: 1, replaced: 0 })
    expect([...stored.items.keys()].sort()).toEqual(
      [await idOf('x/A', '1.jpg'), await idOf('y/A', '1.jpg'), await idOf('z', '1.jpg')].sort(),
    )
  })

  it('store an image once that two paths of a run name', async () => {
    await write({ 'a.jpg': '1' })
    expect(await index(['', 'a.jpg'])).toMatchObject({ added: 1, skipped: 0 })
  })
})

describe('an item that is stored already', () => {
  it('of a changed file is called replaced', async () => {
    await write({ 'a.jpg': '1' })
    await index()
    await write({ 'a.jpg': '2' })
    const outcome = await index()
    expect(summaryLine(outcome)).toBe('0 added, 1 replaced, 0 already stored')
  })

  it('keeps the fields that a client gave, small or large', async () => {
    await write({ 'a.jpg': '1', 'b.jpg': '1' })
    await index()
    const given = { title: 'Café', notes: '' }
    for (const [name, notes] of [
      ['a.jpg', ''],
      ['b.jpg', 'x'.repeat(20_000)],
    ] as const) {
      const item = stored.items.get(await idOf('', name)) as { payload: object }
      item.payload = { ...item.payload, ...given, notes }
    }
    await write({ 'a.jpg': '2', 'b.jpg': '2' })
    expect(await index()).toMatchObject({ replaced: 2, failed: [] })
    expect(stored.items.get(await idOf('', 'a.jpg'))?.payload).toMatchObject(given)
    const { payload } = stored.items.get(await idOf('', 'b.jpg')) as { payload: { notes: string } }
    expect(payload.notes).toHaveLength(20_000)
    expect(await index()).toMatchObject({ replaced: 0, skipped: 2 })
  })

  it('is not replaced where a field of a client would be lost', async () => {
    await write({ 'a.jpg': '1' })
    const payload = { path: 'a road in Wales' }
    stored.items.set(await idOf('', 'a.jpg'), { payload })
    const { failed } = await index()
    expect(failed).toMatchObject([
      { path: 'a.jpg', reason: expect.stringContaining('"path"') as string },
    ])
    expect(stored.items.get(await idOf('', 'a.jpg'))).toEqual({ payload })
  })

  it('by an earlier version, under the path alone, is skipped while unchanged', async () => {
    await write({ 'a.jpg': '1' })
    const sha256 = createHash('sha256').update('1').digest('hex')
    stored.items.set('a.jpg', { payload: { path: 'a.jpg', sha256 } })
    expect(await index()).toMatchObject({ added: 0, skipped: 1 })
    await write({ 'a.jpg': '2' })
    expect(await index()).toMatchObject({ added: 1, replaced: 0 })
    expect(stored.items.get('a.jpg')).toEqual({ payload: { path: 'a.jpg', sha256 } })
  })
})

describe('what is not stored', () => {
  it('is a file above the limit, which is not read', async () => {
    await write({ 'a.jpg': '', 'b.jpg': 'x'.repeat(1000) })
    // Node refuses to read more than 2 GiB at once.
    const size = 3 * 2 ** 30
    await truncate(join(folder, 'a.jpg'), size)
    const { added, failed } = await index()
    expect(added).toBe(1)
    const reason = `it has ${size} bytes; MAX_BODY_BYTES is 1000`
    expect(failed).toEqual([{ path: 'a.jpg', reason }])
  })

  it('is counted when it is left out, and named on request', async () => {
    await write({ 'a.jpg': '1', 'notes.txt': '2', '@eaDir/a.jpg': '3', 'raw/b.jpg': '4' })
    await index('', { exclude: ['raw'] })
    expect(lines.join('')).toContain(
      '(3 files or folders are left out; --show-left-out names them)',
    )
    lines = []
    await index('', { exclude: ['raw'], showLeftOut: true })
    expect(lines.filter((line) => line.startsWith('left out'))).toEqual([
      'left out: @eaDir: it is excluded\n',
      'left out: notes.txt: its extension is not one of an image\n',
      'left out: raw: it is excluded\n',
    ])
  })

  it('is everything in a dry run, which names files and ids', async () => {
    await write({ 'a.jpg': '1', 'large.jpg': 'x'.repeat(1001) })
    const out: string[] = []
    terminal.out = new PassThrough().on('data', (chunk: Buffer) => out.push(chunk.toString()))
    const failed = await listImages([folder], terminal, { maxBytes: 1000 })
    expect(failed.map(({ path }) => path)).toEqual(['large.jpg'])
    expect(out).toEqual([`a.jpg as ${await idOf('', 'a.jpg')}\n`])
    expect(stored.puts).toBe(0)
  })
})

describe('indexImages', () => {
  it('stores every image under its path', async () => {
    await write({ 'a.jpg': '1', 'deep/b é.png': '2', 'notes.txt': '3' })
    const outcome = await index()
    expect(outcome).toEqual({
      added: 2,
      replaced: 0,
      renamed: 0,
      removed: 0,
      skipped: 0,
      failed: [],
    })
    const root = await realpath(folder)
    const [one, two] = [idOfFile(root, 'a.jpg'), idOfFile(root, 'deep/b é.png')]
    expect([...stored.items.keys()].sort()).toEqual([one, two])
    expect(stored.items.get(two)?.payload).toMatchObject({ path: 'deep/b é.png', root })
  })

  it('skips unchanged files and stores changed ones', async () => {
    await write({ 'a.jpg': '1', 'b.jpg': '2' })
    await index()
    await write({ 'b.jpg': 'changed', 'c.jpg': '3' })
    const outcome = await index()
    expect(outcome).toEqual({
      added: 1,
      replaced: 1,
      renamed: 0,
      removed: 0,
      skipped: 1,
      failed: [],
    })
    expect(stored.puts).toBe(4)
  })

  it('reports a refused file with the reason and continues', async () => {
    await write({ 'a.jpg': 'broken', 'b.jpg': '2' })
    const outcome = await index()
    expect(outcome.failed).toEqual([{ path: 'a.jpg', reason: 'The image cannot be decoded.' }])
    expect(outcome.added).toBe(1)
    expect(lines.join('')).toContain('not added: a.jpg: The image cannot be decoded.')
    expect(summaryLine(outcome)).toBe('1 added, 0 already stored, 1 not added')
  })

  it('repeats an upload when the service is busy', async () => {
    stored.busy = 2
    await write({ 'a.jpg': '1' })
    expect(await index()).toEqual({
      added: 1,
      replaced: 0,
      renamed: 0,
      removed: 0,
      skipped: 0,
      failed: [],
    })
  })

  it('stops when the disk of the service is full', async () => {
    stored.full = true
    await write({ 'a.jpg': '1', 'b.jpg': '2' })
    await expect(index()).rejects.toThrow('no space is left')
    expect(lines.join('')).toContain('The same command resumes')
  })

  it('stops when the service is unreachable', async () => {
    await write({ 'a.jpg': '1' })
    stored.server.close()
    await once(stored.server, 'close')
    await expect(index()).rejects.toThrow(/No service answers at http:\/\/127/)
  })

  it('rejects for a folder that does not exist', async () => {
    await expect(index('none')).rejects.toThrow(/ENOENT/)
  })
})

const idsOfRoot = (): string[] =>
  [...stored.items.keys()].map((id) => id.slice(id.indexOf('/') + 1)).sort()

describe('--prune', () => {
  it('removes the items of files that are gone, after their number and names', async () => {
    await write({ 'a.jpg': '1', 'b.jpg': '2', 'c.jpg': '3' })
    await index()
    for (const name of ['a.jpg', 'c.jpg']) await rm(join(folder, name))
    expect(await index()).toMatchObject({ removed: 0, skipped: 1 })
    lines = []
    const outcome = await index('', { prune: true })
    expect(outcome).toMatchObject({ removed: 2, skipped: 1 })
    expect(summaryLine(outcome)).toBe('0 added, 2 removed, 1 already stored')
    expect(lines).toContain('2 items whose file is gone (a.jpg, c.jpg)\n')
    expect(idsOfRoot()).toEqual(['b.jpg'])
  })

  it('keeps items of other folders, of clients, and of files that are left out now', async () => {
    await write({ 'x/a.jpg': '1', 'x/b.jpg': '2', 'y/a.jpg': '3' })
    await index(['x', 'y'])
    const copy = stored.items.get(await idOf('x', 'b.jpg'))?.payload
    stored.items.set('mine', { payload: copy })
    stored.items.set('other', { payload: null })
    const before = [...stored.items.keys()]
    await rm(join(folder, 'y/a.jpg'))
    await write({ 'y/b.jpg': '4' })
    expect(await index('x', { prune: true, exclude: ['a.jpg'] })).toMatchObject({ removed: 0 })
    expect([...stored.items.keys()]).toEqual(before)
    await rm(join(folder, 'x/b.jpg'))
    expect(await index('x', { prune: true })).toMatchObject({ removed: 1 })
    expect(stored.items.has('mine')).toBe(true)
  })

  it('removes the item of a name that is not UTF-8', async () => {
    const name = Buffer.concat([Buffer.from(`${folder}/`), Buffer.from('caf\xe9.jpg', 'latin1')])
    await writeFile(name, '1')
    await write({ 'a.jpg': '2' })
    await index()
    await rm(name)
    expect(await index('', { prune: true })).toMatchObject({ removed: 1, skipped: 1 })
  })

  it('removes nothing where no image is left: the disk may not be mounted', async () => {
    await write({ 'a.jpg': '1' })
    await index()
    await rm(join(folder, 'a.jpg'))
    const { removed, failed } = await index('', { prune: true })
    expect(removed).toBe(0)
    expect(failed[0]?.reason).toMatch(/no image is in it, but 1 items are; none is removed/)
  })

  it('asks on a terminal', async () => {
    await write({ 'a.jpg': '1', 'b.jpg': '2' })
    await index()
    await rm(join(folder, 'a.jpg'))
    const confirm = vi.fn(() => Promise.resolve(false))
    expect(await index('', { prune: true, confirm })).toMatchObject({ removed: 0 })
    expect(confirm).toHaveBeenCalledWith('Remove 1 item?')
    confirm.mockResolvedValue(true)
    expect(await index('', { prune: true, confirm })).toMatchObject({ removed: 1 })
  })

  it('keeps what a client gave to the item of a renamed file', async () => {
    await write({ 'a.jpg': '1', 'b.jpg': '2' })
    await index()
    const item = stored.items.get(await idOf('', 'a.jpg')) as { payload: object }
    item.payload = { ...item.payload, title: 'Café' }
    await rename(join(folder, 'a.jpg'), join(folder, 'عکس 👨\u200d👩.jpg'))
    expect(await index('', { prune: true })).toMatchObject({ renamed: 1, removed: 1, added: 0 })
    expect(idsOfRoot()).toEqual(['b.jpg', 'عکس 👨\u200d👩.jpg'])
    expect(stored.items.get(await idOf('', 'عکس 👨\u200d👩.jpg'))?.payload).toMatchObject({
      title: 'Café',
      path: 'عکس 👨\u200d👩.jpg',
    })
  })

  it('names in a dry run what it would remove', async () => {
    await write({ 'a.jpg': '1', 'b.jpg': '2' })
    await index()
    await rm(join(folder, 'a.jpg'))
    const out: string[] = []
    terminal.out = new PassThrough().on('data', (chunk: Buffer) => out.push(chunk.toString()))
    await listImages([folder], terminal, { maxBytes: 1000 }, client)
    expect(out).toContain(`a.jpg is gone: ${await idOf('', 'a.jpg')}\n`)
    expect(stored.items.size).toBe(2)
  })
})

describe('the caption of a sidecar', () => {
  const captionOf = async (name: string): Promise<unknown> =>
    (stored.items.get(await idOf('', name))?.payload as { caption?: string }).caption

  it('comes into the payload, and follows the sidecar', async () => {
    await write({ 'a.jpg': '1', 'a.txt': 'a dog\n', 'notes.txt': 'no sidecar' })
    await index()
    expect(await captionOf('a.jpg')).toBe('a dog')
    expect(await index()).toMatchObject({ skipped: 1, replaced: 0 })
    await write({ 'a.txt': 'a cat' })
    expect(await index()).toMatchObject({ replaced: 1 })
    expect(await captionOf('a.jpg')).toBe('a cat')
    await rm(join(folder, 'a.txt'))
    expect(await index()).toMatchObject({ replaced: 1 })
    expect(await captionOf('a.jpg')).toBeUndefined()
    expect(lines.join('')).toContain('(1 files or folders are left out')
  })

  it('does not replace one that a client gave', async () => {
    await write({ 'a.jpg': '1', 'a.txt': 'a dog' })
    await index()
    const item = stored.items.get(await idOf('', 'a.jpg')) as { payload: object }
    item.payload = { ...item.payload, caption: 'my dog' }
    await write({ 'a.txt': 'a cat', 'a.jpg': '2' })
    await index()
    expect(await captionOf('a.jpg')).toBe('my dog')
  })

  it('that cannot be read is named, and the image is stored', async () => {
    await write({ 'a.jpg': '1', 'a.json': '{', 'b.jpg': '2', 'b.xmp': '<x:xmpmeta', 'c.jpg': '3' })
    await writeFile(join(folder, 'c.txt'), Buffer.from('Caf\xe9', 'latin1'))
    expect(await index()).toMatchObject({ added: 3, failed: [] })
    for (const name of ['a.json', 'b.xmp', 'c.txt'])
      expect(lines.join('')).toContain(`its sidecar ${name} cannot be read`)
  })
})

describe('--watch', () => {
  let stop: AbortController
  let ended: Promise<void>
  const begin = (): void => {
    stop = new AbortController()
    ended = watchImages(
      client,
      metadata,
      [folder],
      terminal,
      { maxBytes: 1000, signal: stop.signal },
      100,
    )
  }
  const expectStored = (...names: string[]): Promise<void> =>
    vi.waitFor(() => expect(idsOfRoot()).toEqual(names), { timeout: 10_000, interval: 50 })
  afterEach(async () => {
    stop.abort()
    await ended
  })

  it('follows added, changed, renamed and removed files, in new folders too', async () => {
    await write({ 'a.jpg': '1', 'b.jpg': '2' })
    begin()
    await expectStored('a.jpg', 'b.jpg')
    await write({ 'new/deep/c.jpg': '3', 'b.jpg': 'changed' })
    await rename(join(folder, 'a.jpg'), join(folder, 'new/d.jpg'))
    await expectStored('b.jpg', 'new/d.jpg', 'new/deep/c.jpg')
    const sha256 = createHash('sha256').update('changed').digest('hex')
    expect(stored.items.get(await idOf('', 'b.jpg'))?.payload).toMatchObject({ sha256 })
    await rm(join(folder, 'new'), { recursive: true })
    await expectStored('b.jpg')
    expect(lines.join('')).not.toContain('not added')
  }, 40_000)

  it('goes on after a restart of the service', async () => {
    await write({ 'a.jpg': '1' })
    begin()
    await expectStored('a.jpg')
    const { port } = stored.server.address() as AddressInfo
    stored.server.closeAllConnections()
    stored.server.close()
    await write({ 'b.jpg': '2' })
    await rm(join(folder, 'a.jpg'))
    await vi.waitFor(() => expect(lines.join('')).toMatch(/No service answers .*Tried again/), 8000)
    stored.server.listen(port, '127.0.0.1')
    await expectStored('b.jpg')
  }, 40_000)

  it('removes nothing when the folder is not there any more', async () => {
    await write({ 'a.jpg': '1', 'b.jpg': '2' })
    begin()
    await expectStored('a.jpg', 'b.jpg')
    await rename(folder, `${folder}-away`)
    await mkdir(folder)
    await vi.waitFor(() => expect(lines.join('')).toContain('another folder than before'), 8000)
    await rm(folder, { recursive: true })
    await rename(`${folder}-away`, folder)
    await rm(join(folder, 'b.jpg'))
    await expectStored('a.jpg')
  }, 40_000)
})
