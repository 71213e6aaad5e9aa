import { connect, type AddressInfo } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService

afterEach(() => tandem.end())

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

  it('answers another client while one sends as many slow bodies as there are permits', async () => {
    tandem = await startTestService({ maxConcurrentRequests: 8 })
    await tandem.app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = tandem.app.server.address() as AddressInfo
    const head =
      'POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{'
    const slow = Array.from({ length: 8 }, () => connect(port, '127.0.0.1'))
    const refusals: string[] = []
    for (const socket of slow) {
      socket.setEncoding('utf8').on('data', (text: string) => refusals.push(text))
      socket.on('error', () => undefined).write(head)
    }
    try {
      await expect.poll(() => refusals.length).toBe(2)
      for (const text of refusals) expect(text).toContain('6 requests of this client')
      const other = await tandem.app.inject({ url: '/search?q=a', remoteAddress: '192.0.2.1' })
      expect(other.statusCode).toBe(200)
    } finally {
      for (const socket of slow) socket.destroy()
    }
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
  const put = (id: string) =>
    tandem.app.inject({
      method: 'PUT',
      url: `/items/${id}`,
      headers: { 'content-type': 'image/png' },
      body: 'dog',
    })
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
