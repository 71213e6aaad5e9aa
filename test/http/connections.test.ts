import { once } from 'node:events'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { startHealthServer } from '../../src/http/health-server.js'
import { startTestService, type TestService } from '../support/test-service.js'

const LIVE = 'GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n'
let tandem: TestService
const sockets: Socket[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await tandem.end()
})

/** @param localAddress - the address of the client */
async function open(port: number, localAddress = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress })
  socket.on('error', () => undefined)
  sockets.push(socket)
  await once(socket, 'connect')
  return socket
}

/** @returns the status line; empty if the connection was closed */
async function ask(socket: Socket, request = LIVE): Promise<string> {
  socket.write(request)
  const [text] = (await Promise.race([once(socket, 'data'), once(socket, 'close')])) as [unknown]
  return Buffer.isBuffer(text) ? (text.toString().split('\r\n')[0] as string) : ''
}

async function listen(maxConnections: number): Promise<number> {
  tandem = await startTestService({ limits: { maxConnections } })
  await tandem.app.listen({ host: '127.0.0.1', port: 0 })
  return (tandem.app.server.address() as AddressInfo).port
}

describe('connections beyond the limit', () => {
  it('replace the idle one that was used least recently, also of the same client', async () => {
    const port = await listen(3)
    const [first, second, third] = [await open(port), await open(port), await open(port)]
    for (const socket of [second, third, first]) expect(await ask(socket)).toContain('200')
    expect(await ask(await open(port))).toContain('200')
    await expect.poll(() => second.closed).toBe(true)
    expect([first.closed, third.closed]).toEqual([false, false])
  })

  it('replace one of the client with the most, and leave those of others open', async () => {
    const port = await listen(6)
    const good = await open(port, '127.0.0.2')
    expect(await ask(good)).toContain('200')
    const many = []
    for (let at = 0; at < 12; at += 1) {
      many.push(await open(port))
      await ask(many[at] as Socket)
    }
    expect(many.filter(({ closed }) => closed)).toHaveLength(7)
    expect(await ask(good)).toContain('200')
    expect(await ask(await open(port, '127.0.0.3'))).toContain('200')
  })

  it('replace a busy one of a client with more, but not of a client with as many', async () => {
    const port = await listen(2)
    const body =
      'POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n'
    const busy = [await open(port), await open(port)]
    for (const socket of busy) socket.write(body)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(await ask(await open(port))).toBe('')
    const other = await open(port, '127.0.0.2')
    expect(await ask(other)).toContain('200')
    expect(busy.map(({ closed }) => closed)).toEqual([true, false])
    other.write(body)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(await ask(await open(port, '127.0.0.3'))).toBe('')
    expect([busy[1]?.closed, other.closed]).toEqual([false, false])
  })
})

it('the health port answers only probes, also while the other port is full', async () => {
  await listen(1)
  const server = await startHealthServer(tandem.app, { host: '127.0.0.1', port: 0 })
  const { port } = server.address() as AddressInfo
  for (let at = 0; at < 100; at += 1) await open(port)
  const address = `http://127.0.0.1:${port}`
  expect((await fetch(`${address}/health/ready`)).status).toBe(200)
  expect((await fetch(`${address}/health/live`)).headers.get('connection')).toBe('close')
  expect((await fetch(`${address}/items`)).status).toBe(404)
  expect((await fetch(`${address}/health/live`, { method: 'POST' })).status).toBe(404)
  server.close()
})
