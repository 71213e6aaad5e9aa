import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Client } from '../../src/cli/client.js'
import { indexImages, summaryLine } from '../../src/cli/index-folder.js'

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
      this.items.set(id, { payload: JSON.parse(url.searchParams.get('payload') ?? 'null') })
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

describe('indexImages', () => {
  it('stores every image under its path', async () => {
    await write({ 'a.jpg': '1', 'deep/b é.png': '2', 'notes.txt': '3' })
    const outcome = await indexImages(client, folder, terminal)
    expect(outcome).toEqual({ added: 2, skipped: 0, failed: [] })
    expect([...stored.items.keys()].sort()).toEqual(['a.jpg', 'deep/b é.png'])
    expect(stored.items.get('deep/b é.png')?.payload).toMatchObject({ path: 'deep/b é.png' })
  })

  it('skips unchanged files and stores changed ones', async () => {
    await write({ 'a.jpg': '1', 'b.jpg': '2' })
    await indexImages(client, folder, terminal)
    await write({ 'b.jpg': 'changed', 'c.jpg': '3' })
    const outcome = await indexImages(client, folder, terminal)
    expect(outcome).toEqual({ added: 2, skipped: 1, failed: [] })
    expect(stored.puts).toBe(4)
  })

  it('reports a refused file with the reason and continues', async () => {
    await write({ 'a.jpg': 'broken', 'b.jpg': '2' })
    const outcome = await indexImages(client, folder, terminal)
    expect(outcome.failed).toEqual([{ path: 'a.jpg', reason: 'The image cannot be decoded.' }])
    expect(outcome.added).toBe(1)
    expect(lines.join('')).toContain('not added: a.jpg: The image cannot be decoded.')
    expect(summaryLine(outcome)).toBe('1 added, 0 already stored, 1 not added')
  })

  it('repeats an upload when the service is busy', async () => {
    stored.busy = 2
    await write({ 'a.jpg': '1' })
    expect(await indexImages(client, folder, terminal)).toEqual({
      added: 1,
      skipped: 0,
      failed: [],
    })
  })

  it('stops when the disk of the service is full', async () => {
    stored.full = true
    await write({ 'a.jpg': '1', 'b.jpg': '2' })
    await expect(indexImages(client, folder, terminal)).rejects.toThrow('no space is left')
    expect(lines.join('')).toContain('The same command resumes')
  })

  it('stops when the service is unreachable', async () => {
    await write({ 'a.jpg': '1' })
    stored.server.close()
    await once(stored.server, 'close')
    await expect(indexImages(client, folder, terminal)).rejects.toThrow(
      /No service answers at http:\/\/127/,
    )
  })

  it('rejects for a folder that does not exist', async () => {
    await expect(indexImages(client, join(folder, 'none'), terminal)).rejects.toThrow(/ENOENT/)
  })
})
