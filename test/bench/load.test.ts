import { createServer, type RequestListener, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { Load, type Answer } from '../../bench/load.js'

const asked = { method: 'POST', path: '/', headers: {}, body: Buffer.from('hello') }
let server: Server | undefined

async function serve(listener: RequestListener): Promise<string> {
  server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function open(address: string, perSecond: number, seconds: number): Promise<Answer[]> {
  const answers: Answer[] = []
  const load = new Load(address, () => asked)
  await load.open(perSecond, seconds, (_asked, answer) => answers.push(answer))
  load.close()
  return answers
}

describe('a load', () => {
  afterEach(() => {
    server?.closeAllConnections()
    server?.close()
  })

  it('in an open loop counts the wait of requests that were due during a standstill', async () => {
    const until = performance.now() + 600
    const address = await serve((_request, reply) => {
      setTimeout(() => reply.end(), Math.max(0, until - performance.now()))
    })
    const answers = await open(address, 200, 1)
    const waited = answers.filter(({ milliseconds }) => milliseconds > 100).length
    // About those due in the first half second; a client that waits for its answer would have sent
    // one of them.
    expect(waited).toBeGreaterThan(40)
  })

  it('in an open loop counts the time in which the generator itself was blocked', async () => {
    const address = await serve((_request, reply) => reply.end())
    const answers: Answer[] = []
    const load = new Load(address, () => asked)
    setTimeout(() => {
      for (const until = performance.now() + 300; performance.now() < until;);
    }, 200)
    await load.open(200, 1, (_asked, answer) => answers.push(answer))
    load.close()
    expect(answers.filter(({ milliseconds }) => milliseconds > 100).length).toBeGreaterThan(20)
  })

  it('in an open loop sends at its rate without waiting for answers, and returns how many it could not send', async () => {
    const address = await serve(() => undefined)
    const load = new Load(address, () => asked)
    const sent = load.open(2000, 0.5, () => undefined)
    setTimeout(() => server?.closeAllConnections(), 1000)
    const unsent = await sent
    load.close()
    expect(unsent).toBeGreaterThan(300)
  })

  it('in a closed loop has one request in flight for each client', async () => {
    let [underWay, most] = [0, 0]
    const address = await serve((_request, reply) => {
      most = Math.max(most, ++underWay)
      setTimeout(() => {
        underWay -= 1
        reply.end()
      }, 5)
    })
    const load = new Load(address, () => asked)
    let answered = 0
    await load.closed(7, 0.5, () => (answered += 1))
    load.close()
    expect(most).toBe(7)
    expect(answered).toBeGreaterThan(20)
  })

  it('keeps the body of a refusal, and distinguishes a failed connection from an answer', async () => {
    const address = await serve((request, reply) => {
      if (request.url === '/refused') reply.writeHead(503).end('{"code":"overloaded"}')
      else request.socket.destroy()
    })
    const load = new Load(address, () => asked)
    expect(await load.send({ ...asked, path: '/refused' })).toMatchObject({
      status: 503,
      said: '{"code":"overloaded"}',
    })
    expect(await load.send(asked)).toMatchObject({ status: 0, said: '' })
    load.close()
  })
})
