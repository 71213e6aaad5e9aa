/** Clients that hold a connection by sending little (slow-loris), and honest slow clients. */
import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { problems } from '../../../src/http/plugins/problems.js'
import { slowClients } from '../../../src/http/plugins/slow-clients.js'
import { startTestService, type TestService } from '../../support/test-service.js'

vi.setConfig({ testTimeout: 60_000 })

/** Bytes of an answer, more than the buffers between service and client hold. */
const LARGE = 12_000_000

const sockets: Socket[] = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy()
})

interface Client {
  socket: Socket
  /** All that the service has said until it closed the connection. */
  ended: Promise<string>
}

async function client(port: number, ...pieces: string[]): Promise<Client> {
  const socket = connect(port, '127.0.0.1')
  sockets.push(socket)
  let said = ''
  socket
    .on('data', (bytes: Buffer) => (said += bytes.toString('latin1')))
    .on('error', () => undefined)
  // What was said counts also where a reset follows, which once() would take for a failure.
  const ended = new Promise<string>((resolve) => socket.once('close', () => resolve(said)))
  await once(socket, 'connect')
  for (const piece of pieces) socket.write(piece)
  return { socket, ended }
}

/** Writes a byte again and again until the connection is closed. */
function drip({ socket }: Client, everyMs: number): void {
  const timer = setInterval(() => socket.writable && socket.write('a'), everyMs)
  socket.once('close', () => clearInterval(timer))
}

const portOf = ({ server }: FastifyInstance): number => (server.address() as AddressInfo).port

describe('the head of a request', () => {
  let tandem: TestService
  beforeAll(async () => {
    tandem = await startTestService({ limits: { headersTimeoutMs: 400, maxConnections: 5 } })
    await tandem.app.listen({ host: '127.0.0.1', port: 0 })
  })
  afterAll(() => tandem.end())

  it.each([
    ['that never comes', ''],
    ['that stops', 'GET /search?q=a HTTP/1.1\r\nhost: 127.0.0.1\r\n'],
  ])('%s ends the connection with 408', async (_what, piece) => {
    const { ended } = await client(portOf(tandem.app), piece)
    expect(await ended).toMatch(/^HTTP\/1\.1 408 .*"code":"request_too_slow"/s)
  })

  it('that arrives a header at a time ends the connection, while other clients are answered', async () => {
    const held = await Promise.all(
      [1, 2, 3].map(() => client(portOf(tandem.app), 'GET / HTTP/1.1\r\n')),
    )
    for (const one of held) drip(one, 50)
    const url = `http://127.0.0.1:${portOf(tandem.app)}/health/ready`
    expect((await fetch(url, { headers: { connection: 'close' } })).status).toBe(200)
    for (const { ended } of held) expect(await ended).toContain('408')
  })

  it('times out for a client that does not close its half of the connection', async () => {
    const before = await connections(tandem.app)
    const socket = connect({
      port: portOf(tandem.app),
      host: '127.0.0.1',
      allowHalfOpen: true,
    }).resume()
    sockets.push(socket)
    await once(socket, 'end')
    await expect.poll(() => connections(tandem.app)).toBe(before)
  })

  it('is not read beyond the limit of connections, and other requests are answered', async () => {
    await expect.poll(() => connections(tandem.app)).toBe(0)
    // Attackers from one address; the other client has another one, and so keeps its connection.
    const agent = new Agent({ keepAlive: true, maxSockets: 1, localAddress: '127.0.0.2' })
    const ask = (): Promise<number | undefined> =>
      new Promise((resolve, reject) => {
        const url = `http://127.0.0.1:${portOf(tandem.app)}/health/ready`
        get(url, { agent }, (reply) =>
          reply.resume().on('end', () => resolve(reply.statusCode)),
        ).on('error', reject)
      })
    expect(await ask()).toBe(200)
    const flood = await Promise.all(Array.from({ length: 50 }, () => client(portOf(tandem.app))))
    expect(await ask()).toBe(200)
    await expect.poll(() => connections(tandem.app)).toBe(5)
    const said = await Promise.all(flood.map(({ ended }) => ended))
    expect(said.filter((one) => one.includes('408'))).toHaveLength(4)
    expect(said.filter((one) => one === '')).toHaveLength(46)
    expect(await ask()).toBe(200)
    agent.destroy()
  })
})

describe('a body', () => {
  let app: FastifyInstance
  /** What the handler does with each piece of a stream: it may take its time. */
  let take: () => Promise<void> = () => Promise.resolve()
  const failures: string[] = []

  beforeAll(async () => {
    app = Fastify({ forceCloseConnections: true })
    await app.register(problems)
    await app.register(slowClients, { minBytesPerS: 1000, graceMs: 400 })
    app.addContentTypeParser('application/x-ndjson', (_request, payload, parsed) =>
      parsed(null, payload),
    )
    app.post('/stream', async (request) => {
      let bytes = 0
      try {
        for await (const piece of request.body as Readable) {
          bytes += (piece as Buffer).length
          await take()
        }
      } catch (error) {
        failures.push((error as Error).message)
      }
      return { bytes }
    })
    app.post('/json', () => ({ read: true }))
    app.get('/large', () => 'x'.repeat(LARGE))
    await app.listen({ host: '127.0.0.1', port: 0 })
  })
  afterAll(() => app.close())

  const head = (path: string, more: string): string =>
    `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n${more}\r\n\r\n`
  const stream = head(
    '/stream',
    'content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close',
  )
  const json = head('/json', 'content-type: application/json\r\ncontent-length: 100000')

  it.each([
    ['that stops', stream, 0],
    ['that arrives a byte at a time', stream, 20],
    ['of JSON that stops', json, 0],
    ['of JSON that arrives a byte at a time', json, 20],
  ])('%s ends the connection with 408', async (_what, piece, everyMs) => {
    const one = await client(portOf(app), piece, piece === stream ? 'fffff\r\n' : '')
    if (everyMs > 0) drip(one, everyMs)
    expect(await one.ended).toMatch(
      /^HTTP\/1\.1 408 .*connection: close.*"code":"request_too_slow"/s,
    )
  })

  it('that keeps the pace has no time limit', async () => {
    const one = await client(portOf(app), stream)
    for (let at = 0; at < 20; at += 1) {
      one.socket.write(`c8\r\n${'a'.repeat(200)}\r\n`)
      await sleep(100)
    }
    one.socket.write('0\r\n\r\n')
    expect(await one.ended).toMatch(/^HTTP\/1\.1 200 .*"bytes":4000/s)
  })

  it('that was fast may pause', async () => {
    const one = await client(portOf(app), stream)
    // Bytes in the packet of the head earn nothing.
    await sleep(100)
    one.socket.write(`7d0\r\n${'a'.repeat(2000)}\r\n`)
    await sleep(1200)
    one.socket.write('0\r\n\r\n')
    expect(await one.ended).toContain('"bytes":2000')
  })

  it('is not slow while the service does not read it', async () => {
    // Longer than the most credit, with no byte taken meanwhile.
    take = () => sleep(3000)
    const one = await client(portOf(app), stream)
    const pieces = 16
    for (let at = 0; at < pieces; at += 1) one.socket.write(`8000\r\n${'a'.repeat(0x8000)}\r\n`)
    one.socket.write('0\r\n\r\n')
    await sleep(1000)
    take = () => Promise.resolve()
    expect(await one.ended).toContain(`"bytes":${pieces * 0x8000}`)
  })

  it('that continues after the answer ends the connection', async () => {
    // Answered by its head alone.
    const one = await client(
      portOf(app),
      head('/json', 'content-type: text/csv\r\ncontent-length: 1000000'),
    )
    drip(one, 1)
    expect(await one.ended).toContain('HTTP/1.1 415')
  })

  it('of an answer may be read slowly', async () => {
    const socket = connect(portOf(app), '127.0.0.1').pause()
    sockets.push(socket)
    socket.write('GET /large HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n')
    let [taken, isOver] = [0, false]
    socket.once('end', () => (isOver = true))
    const from = performance.now()
    while (!isOver) {
      await sleep(20)
      taken += (socket.read() as Buffer | null)?.length ?? 0
    }
    expect(taken).toBeGreaterThan(LARGE)
    // Longer than an answer may lie with nothing taken, or this was no test.
    expect(performance.now() - from).toBeGreaterThan(2400)
  })

  it('of an answer that is not read ends the connection', async () => {
    const socket = connect(portOf(app), '127.0.0.1').on('error', () => undefined)
    sockets.push(socket.pause())
    socket.write('GET /large HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n')
    await expect.poll(() => app.server.listening && connections(app)).toBe(1)
    await expect.poll(() => connections(app), { timeout: 10_000 }).toBe(0)
  })
})

function connections({ server }: FastifyInstance): Promise<number> {
  return new Promise((resolve, reject) =>
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
  )
}
