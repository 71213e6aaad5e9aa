import { createHash } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import { mkdir, mkdtemp, realpath, rm, truncate, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Client } from '../../src/cli/client.js'
import { idOfFile } from '../../src/cli/image-files.js'
import {
  indexImages,
  listImages,
  summaryLine,
  type IndexOptions,
  type IndexOutcome,
} from '../../src/cli/index-folder.js'

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
      const item = this.items.get(id)
      const isForm = request.headers['content-type']?.startsWith('multipart/form-data') === true
      const inForm = /name="payload"\r\n\r\n([^\r]*)\r\n/.exec(body.toString())?.[1]
      if (request.method === 'GET')
        return item ? answer(200, { id, ...item }) : answer(404, { detail: 'none' })
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
  return indexImages(client, paths, terminal, { maxBytes: 1000, ...options })
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
    expect(outcome).toEqual({ added: 2, replaced: 0, skipped: 0, failed: [] })
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
    expect(outcome).toEqual({ added: 1, replaced: 1, skipped: 1, failed: [] })
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
