import { once } from 'node:events'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService
let port: number
const sockets: Socket[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await tandem.end()
})

async function listen(): Promise<void> {
  await tandem.app.listen({ host: '127.0.0.1', port: 0 })
  port = (tandem.app.server.address() as AddressInfo).port
}

/** Sends the text, which may be the start of a request. */
async function client(text: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1').on('error', () => undefined)
  sockets.push(socket)
  await once(socket, 'connect')
  socket.write(text)
  return socket
}

const head = (start: string, type: string, length: number): string =>
  `${start} HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${type}\r\nContent-Length: ${length}\r\n\r\n`

const put = (id: string) =>
  tandem.app.inject({
    method: 'PUT',
    url: `/items/${id}`,
    headers: { 'content-type': 'image/png' },
    body: 'dog',
  })

const connections = (): Promise<number> =>
  new Promise((resolve, reject) =>
    tandem.app.server.getConnections((error, count) =>
      error === null ? resolve(count) : reject(error),
    ),
  )

/** Makes the model wait until `open` is called; remembers the signals it was given. */
function holdModel(): { open: () => void; signals: AbortSignal[] } {
  const signals: AbortSignal[] = []
  let open = (): void => undefined
  const opened = new Promise<void>((resolve) => (open = resolve))
  tandem.models.gate = (signal) => {
    if (signal !== undefined) signals.push(signal)
    return opened
  }
  return { open, signals }
}

describe('the limit of requests at a time', () => {
  it('answers 503 with Retry-After beyond it, and gives permits back', async () => {
    tandem = await startTestService({ maxConcurrentRequests: 2 })
    const { open, signals } = holdModel()
    const held = Promise.all([tandem.app.inject('/search?q=a'), tandem.app.inject('/search?q=b')])
    await expect.poll(() => signals.length).toBe(2)
    const refused = await tandem.app.inject('/search?q=d')
    expect(refused.json()).toMatchObject({ code: 'overloaded', status: 503 })
    expect(refused.headers['retry-after']).toBe('1')
    expect((await tandem.app.inject('/health/ready')).statusCode).toBe(200)
    expect((await tandem.app.inject('/metrics')).statusCode).toBe(200)
    open()
    for (const reply of await held) expect(reply.statusCode).toBe(200)
    for (let again = 0; again < 5; again += 1)
      expect((await tandem.app.inject('/search?q=e')).statusCode).toBe(200)
  })

  it('counts requests whose bodies are there, and not those that arrive slowly', async () => {
    tandem = await startTestService({
      maxConcurrentRequests: 2,
      limits: { maxConcurrentBulkRequests: 1 },
    })
    await listen()
    await Promise.all(
      [
        head('POST /search', 'application/json', 100) + '{',
        head('POST /search', 'multipart/form-data; boundary=x', 100) + '--x',
        head('PUT /items/a', 'image/png', 100) + 'a',
        head('POST /items', 'multipart/form-data; boundary=x', 100) + '--x',
        head('POST /items', 'application/x-ndjson', 100) + '{"id": "a"}\n{',
      ].flatMap((text) => [1, 2, 3].map(() => client(text))),
    )
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect((await tandem.app.inject('/search?q=a')).statusCode).toBe(200)
    expect((await put('b')).statusCode).toBe(201)
  })

  it('makes a stream of lines wait for a permit, and loses no line', async () => {
    tandem = await startTestService({ limits: { maxConcurrentBulkRequests: 1 } })
    const { open, signals } = holdModel()
    const lines = Array.from({ length: 40 }, (_, at) =>
      JSON.stringify({ id: `line-${at}`, image: Buffer.from('dog').toString('base64') }),
    )
    await listen()
    const body = lines.join('\n')
    const stream = await client(head('POST /items', 'application/x-ndjson', body.length))
    await new Promise((resolve) => setTimeout(resolve, 50))
    const held = put('a')
    await expect.poll(() => signals.length).toBe(1)
    let said = ''
    stream.on('data', (bytes: Buffer) => (said += bytes.toString())).write(body)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(signals).toHaveLength(1)
    open()
    expect((await held).statusCode).toBe(201)
    await expect.poll(() => said).toContain('"created":40')
    expect((await put('c')).statusCode).toBe(201)
  })

  it('gives permits back after errors, invalid input and unknown routes', async () => {
    tandem = await startTestService({ maxConcurrentRequests: 1 })
    for (const url of ['/search', '/search?q=a&k=0', '/nothing', '/items/nobody']) {
      for (let again = 0; again < 3; again += 1)
        expect((await tandem.app.inject(url)).statusCode).toBeLessThan(500)
    }
    expect((await tandem.app.inject('/search?q=a')).statusCode).toBe(200)
  })
})

describe('the limit of bytes held at a time', () => {
  it('refuses the body of the client with the most bytes, and no small request', async () => {
    tandem = await startTestService({
      maxBodyBytes: 200_000,
      limits: { maxHeldBytes: 16 * 200_000 },
    })
    await listen()
    const size = 200_000
    const text = head('PUT /items/a', 'image/png', size) + 'a'.repeat(size - 1)
    let said = ''
    for (let at = 0; at < 17; at += 1) {
      const socket = await client(text)
      socket.on('data', (bytes: Buffer) => (said += bytes.toString()))
    }
    await expect.poll(() => said).toMatch(/^HTTP\/1\.1 503 .*"code":"overloaded"/s)
    expect(said.match(/HTTP/g)).toHaveLength(1)
    expect((await put('b')).statusCode).toBe(201)
    expect((await tandem.app.inject('/search?q=a')).statusCode).toBe(200)
    for (const socket of sockets) socket.destroy()
    await expect.poll(connections).toBe(0)
    const whole = {
      method: 'PUT',
      url: '/items/c',
      headers: { 'content-type': 'image/png' },
    } as const
    for (let again = 0; again < 20; again += 1) {
      const reply = await tandem.app.inject({ ...whole, body: `dog${'g'.repeat(size - 3)}` })
      expect(reply.json()).not.toMatchObject({ code: 'overloaded' })
    }
  })

  it('closes the connection of the client with the most answers that it does not read', async () => {
    tandem = await startTestService({
      maxBodyBytes: 60_000,
      limits: { maxHeldBytes: 1_000_000 },
    })
    await tandem.retrieval.add({
      id: 'a',
      image: Buffer.from('dog'),
      payload: { text: 'x'.repeat(60_000) },
    })
    for (const id of ['b', 'c', 'd'])
      await tandem.retrieval.add({
        id,
        image: Buffer.from('cat'),
        payload: { text: 'x'.repeat(60_000) },
      })
    await listen()
    const list = 'GET /items HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n'
    for (let at = 0; at < 60; at += 1) (await client(list.repeat(90))).pause()
    await expect.poll(() => connections(), { timeout: 8000 }).toBeLessThan(30)
    expect((await tandem.app.inject('/items?limit=1')).statusCode).toBe(200)
  })
})

describe('the time limit', () => {
  it('answers 503 and aborts the work', async () => {
    tandem = await startTestService({ requestTimeoutMs: 100 })
    const { open, signals } = holdModel()
    const reply = await tandem.app.inject('/search?q=a')
    expect(reply.json()).toMatchObject({ status: 503, code: 'timed_out' })
    expect(reply.headers['retry-after']).toBe('1')
    expect(signals.map(({ aborted }) => aborted)).toEqual([true])
    open()
    tandem.models.gate = () => Promise.resolve()
    expect((await tandem.app.inject('/search?q=a')).statusCode).toBe(200)
  })
})

describe('the header Request-Timeout', () => {
  const search = (seconds: string) =>
    tandem.app.inject({ url: '/search?q=a', headers: { 'request-timeout': seconds } })

  it('makes the time limit shorter, but not longer', async () => {
    tandem = await startTestService({ requestTimeoutMs: 200 })
    const { open } = holdModel()
    expect((await search('0.05')).json()).toMatchObject({
      code: 'timed_out',
      detail: expect.stringContaining('50 ms') as string,
    })
    expect((await search('60')).json()).toMatchObject({
      code: 'timed_out',
      detail: expect.stringContaining('200 ms') as string,
    })
    open()
  })

  it('reaches the model as a deadline', async () => {
    tandem = await startTestService()
    const encodeTexts = vi.spyOn(tandem.models, 'encodeTexts')
    const before = performance.now()
    expect((await search('2.5')).statusCode).toBe(200)
    const { deadline } = encodeTexts.mock.calls[0]?.[1] ?? {}
    expect(deadline).toBeGreaterThanOrEqual(before + 2500)
    expect(deadline).toBeLessThanOrEqual(performance.now() + 2500)
  })

  it.each(['0', '-1', 'soon', '1e3', '', 'Infinity', '0x10'])(
    'is refused as %j',
    async (seconds) => {
      tandem = await startTestService({ maxConcurrentRequests: 1 })
      const refused = await search(seconds)
      expect(refused.json()).toMatchObject({
        code: 'invalid_request',
        detail: expect.stringContaining('Request-Timeout') as string,
      })
      expect((await tandem.app.inject('/search?q=a')).statusCode).toBe(200)
    },
  )

  it('holds for a stream of many items, which has no limit of its own', async () => {
    tandem = await startTestService({ requestTimeoutMs: 100 })
    const { open } = holdModel()
    const line = JSON.stringify({ id: 'a', image: Buffer.from('dog').toString('base64') })
    const reply = await tandem.app.inject({
      method: 'POST',
      url: '/items',
      headers: { 'content-type': 'application/x-ndjson', 'request-timeout': '0.2' },
      body: line,
    })
    expect(reply.json()).toMatchObject({ code: 'timed_out' })
    open()
  })
})

describe('bulk requests', () => {
  const embed = (count: number) =>
    tandem.app.inject({
      method: 'POST',
      url: '/embed',
      body: { inputs: Array.from({ length: count }, () => ({ text: 'dog' })) },
    })

  it('have permits of their own, so that searches keep theirs', async () => {
    tandem = await startTestService({
      maxConcurrentRequests: 2,
      limits: { maxConcurrentBulkRequests: 1 },
    })
    const { open, signals } = holdModel()
    const held = put('a')
    await expect.poll(() => signals.length).toBe(1)
    for (const refused of [await put('b'), await embed(9)]) {
      expect(refused.json()).toMatchObject({ code: 'overloaded', status: 503 })
      expect(refused.headers['retry-after']).toBe('1')
    }
    const others = [tandem.app.inject('/search?q=a'), embed(8)]
    await expect.poll(() => signals.length).toBe(3)
    open()
    expect((await held).statusCode).toBe(201)
    for (const reply of await Promise.all(others)) expect(reply.statusCode).toBe(200)
    for (let again = 0; again < 3; again += 1) expect((await embed(9)).statusCode).toBe(200)
  })

  it('have the priority bulk at the model; searches and small requests do not', async () => {
    tandem = await startTestService()
    const texts = vi.spyOn(tandem.models, 'encodeTexts')
    const images = vi.spyOn(tandem.models, 'encodeImages')
    await put('a')
    await embed(9)
    await embed(8)
    await tandem.app.inject('/search?q=a')
    expect(images.mock.calls.map(([, call]) => call?.priority)).toEqual(['bulk'])
    expect(texts.mock.calls.map(([, call]) => call?.priority)).toEqual([
      'bulk',
      'interactive',
      'interactive',
    ])
    expect(texts.mock.calls.map(([, call]) => call?.pairsAhead ?? 0)).toEqual([0, 0, 1])
  })
})

describe('the abort signal', () => {
  it('fires when the client closes the connection, not when the body has been read', async () => {
    tandem = await startTestService({ maxConcurrentRequests: 1 })
    const { open, signals } = holdModel()
    const address = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
    const client = new AbortController()
    const body = JSON.stringify({ text: 'a' })
    const call = fetch(`${address}/search`, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
      signal: client.signal,
    })
    call.catch(() => undefined)
    await expect.poll(() => signals.length).toBe(1)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(signals[0]?.aborted).toBe(false)
    client.abort()
    await expect.poll(() => signals[0]?.aborted).toBe(true)
    open()
    // The permit comes back with the connection, not with the work.
    await expect.poll(async () => (await fetch(`${address}/search?q=a`)).status).toBe(200)
  })

  it('prevents an add from storing the item of a client that left', async () => {
    tandem = await startTestService()
    const { open, signals } = holdModel()
    const address = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
    const client = new AbortController()
    fetch(`${address}/items/a`, {
      method: 'PUT',
      body: 'dog',
      headers: { 'content-type': 'image/png' },
      signal: client.signal,
    }).catch(() => undefined)
    await expect.poll(() => signals.length).toBe(1)
    client.abort()
    await expect.poll(() => signals[0]?.aborted).toBe(true)
    open()
    await tandem.retrieval.add({ id: 'b', image: Buffer.from('cat'), payload: null })
    expect((await tandem.app.inject('/items/a')).statusCode).toBe(404)
  })
})

describe('before it is ready', () => {
  it('refuses requests with not_ready, and answers /health/live', async () => {
    tandem = await startTestService({}, false)
    expect((await tandem.app.inject('/health/live')).statusCode).toBe(200)
    const ready = await tandem.app.inject('/health/ready')
    expect([ready.statusCode, ready.json<{ status: string }>().status]).toEqual([503, 'starting'])
    const refused = await tandem.app.inject('/search?q=a')
    expect(refused.json()).toMatchObject({ status: 503, code: 'not_ready' })
    expect(refused.headers['retry-after']).toBe('1')
    await tandem.start()
    expect((await tandem.app.inject('/health/ready')).json()).toMatchObject({ status: 'ready' })
    expect((await tandem.app.inject('/search?q=a')).statusCode).toBe(200)
  })

  it('is not ready while a worker restarts, names it, and answers requests that do not need it', async () => {
    tandem = await startTestService()
    const worker = { name: 'decoder', pid: null, ready: false, restarts: 0 }
    tandem.models.workers = [{ ...worker, name: 'inference', ready: true }, worker]
    const away = await tandem.app.inject('/health/ready')
    expect(away.statusCode).toBe(503)
    expect(away.json()).toEqual({
      status: 'recovering',
      detail: 'being started again after a failure: decoder',
    })
    expect((await tandem.app.inject('/search?q=a')).statusCode).toBe(200)
    // Of two processes that do the same the other goes on.
    tandem.models.workers = [worker, { ...worker, ready: true }]
    expect((await tandem.app.inject('/health/ready')).statusCode).toBe(200)
    tandem.models.workers = [{ ...worker, ready: true }]
    expect((await tandem.app.inject('/health/ready')).statusCode).toBe(200)
  })
})
