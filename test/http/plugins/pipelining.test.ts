/** Clients that send requests ahead on one connection, read nothing, and close it. */
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { connect, type AddressInfo, type Socket } from 'node:net'
import Fastify from 'fastify'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openKeys } from '../../../src/auth/keys.js'
import { identity } from '../../../src/http/plugins/auth.js'
import { overload } from '../../../src/http/plugins/overload.js'
import { problems } from '../../../src/http/plugins/problems.js'
import { tracing } from '../../../src/http/plugins/tracing.js'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService
let port: number
/** Signals of the searches that the model works on. */
let started: AbortSignal[]
let release: () => void
const sockets: Socket[] = []

beforeEach(async () => {
  tandem = await startTestService({ maxConcurrentRequests: 4 })
  started = []
  const released = new Promise<void>((resolve) => (release = resolve))
  tandem.models.gate = (signal) => {
    if (signal !== undefined) started.push(signal)
    return released
  }
  await tandem.app.listen({ host: '127.0.0.1', port: 0 })
  port = (tandem.app.server.address() as AddressInfo).port
})
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  release()
  await tandem.end()
})

const request = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`

async function client(to: number, text: string): Promise<Socket> {
  const socket = connect(to, '127.0.0.1').on('error', () => undefined)
  sockets.push(socket)
  await once(socket, 'connect')
  socket.write(text)
  return socket
}

async function received(socket: Socket): Promise<string> {
  let text = ''
  socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
  await once(socket, 'close')
  return text
}

const statuses = (text: string): string[] =>
  [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status = '']) => status)

const openFiles = (): number => readdirSync('/proc/self/fd').length

describe('pipelined requests', () => {
  it('are handled one at a time and answered in their order', async () => {
    const socket = await client(port, request('/search?q=a').repeat(3) + request('/none'))
    await expect.poll(() => started.length).toBe(1)
    // Requests of other connections pass them.
    expect((await fetch(`http://127.0.0.1:${port}/health/live`)).status).toBe(200)
    expect(started).toHaveLength(1)
    release()
    socket.write(request('/health/live').replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n'))
    expect(statuses(await received(socket))).toEqual(['200', '200', '200', '404', '200'])
    expect(started).toHaveLength(3)
  })

  it('give all permits back when the connection closes', async () => {
    for (let round = 1; round <= 3; round += 1) {
      const socket = await client(
        port,
        request('/docs/static/swagger-ui-bundle.js').repeat(4) + request('/search?q=a').repeat(8),
      )
      socket.pause()
      const searching = await client(port, request('/search?q=a').repeat(8))
      await expect.poll(() => started.length).toBe(round)
      socket.destroy()
      searching.destroy()
      await expect.poll(() => started.at(-1)?.aborted).toBe(true)
    }
    release()
    for (let again = 0; again < 5; again += 1)
      expect((await tandem.app.inject('/search?q=b')).statusCode).toBe(200)
  })

  it('hold no file descriptors for answers that are not read', async () => {
    const before = openFiles()
    for (let at = 0; at < 4; at += 1) {
      const socket = await client(port, request('/docs/static/swagger-ui-bundle.js').repeat(90))
      socket.pause()
    }
    await expect.poll(() => connections()).toBe(4)
    await new Promise((resolve) => setTimeout(resolve, 200))
    // Both ends of each connection are in this process.
    expect(openFiles() - before).toBeLessThanOrEqual(8)
    for (const socket of sockets) socket.destroy()
    await expect.poll(() => connections()).toBe(0)
    expect(openFiles()).toBeLessThanOrEqual(before)
  })

  it('close the connection when more than 100 wait', async () => {
    const socket = await client(port, request('/search?q=a') + request('/none').repeat(101))
    await once(socket, 'close')
    expect(started.length).toBeLessThanOrEqual(1)
    release()
    expect((await tandem.app.inject('/search?q=b')).statusCode).toBe(200)
  })

  it('may be 100 on one connection, and as many again when those are answered', async () => {
    release()
    const socket = await client(port, request('/none').repeat(100))
    let text = ''
    socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
    const timeout = 5000
    await expect.poll(() => statuses(text).length, { timeout }).toBe(100)
    socket.write(request('/none').repeat(100))
    await expect.poll(() => statuses(text).length, { timeout }).toBe(200)
  })
})

describe('a connection that stays open', () => {
  it('keeps no listeners of the requests that were answered on it', async () => {
    release()
    let held: Socket | undefined
    tandem.app.server.on('request', (incoming) => (held = incoming.socket))
    const socket = await client(port, '')
    let text = ''
    socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
    const listeners: number[] = []
    for (let at = 1; at <= 30; at += 1) {
      socket.write(request('/search?q=a'))
      await expect.poll(() => statuses(text).length, { interval: 2 }).toBe(at)
      listeners.push(held?.listenerCount('close') ?? -1)
    }
    expect(Math.max(...listeners.slice(1))).toBe(listeners[1])
  })
})

describe('the limit of requests at a time', () => {
  it('takes permits back from replies that wait behind another one', async () => {
    const app = Fastify()
    const keys = await openKeys({ keys: [], file: undefined, onChange: () => undefined })
    await app.register(tracing, { records: false })
    await app.register(problems)
    await app.register(identity, { keys })
    await app.register(overload, {
      // One client has at most three quarters, rounded up: four.
      maxConcurrentRequests: 5,
      maxConcurrentBulkRequests: 4,
      maxHeldBytes: 1000,
      requestTimeoutMs: 60_000,
      readiness: { state: 'ready', detail: '' },
    })
    let held = 0
    app.get('/wait', ({ call }) => {
      held += 1
      return new Promise((resolve) => call?.signal?.addEventListener('abort', resolve))
    })
    app.get('/brief', () => new Promise((resolve) => setTimeout(resolve, 20, 'done')))
    await app.listen({ host: '127.0.0.1', port: 0 })
    const four = async (): Promise<number[]> => {
      const replies = await Promise.all([1, 2, 3, 4].map(() => app.inject('/brief')))
      return replies.map(({ statusCode }) => statusCode)
    }
    const { port: own } = app.server.address() as AddressInfo
    const socket = await client(own, request('/wait').repeat(4))
    await expect.poll(() => held).toBe(4)
    expect(await four()).toEqual([503, 503, 503, 503])
    socket.destroy()
    await expect.poll(four).toEqual([200, 200, 200, 200])
    await app.close()
  })
})

function connections(): Promise<number> {
  return new Promise((resolve, reject) =>
    tandem.app.server.getConnections((error, count) =>
      error === null ? resolve(count) : reject(error),
    ),
  )
}
