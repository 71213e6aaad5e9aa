import { afterEach, describe, expect, it } from 'vitest'
import { wordTandem, type WordTandem } from '../word-rooms.js'

let tandem: WordTandem

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
    tandem = await wordTandem({ maxConcurrentRequests: 2 })
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
    for (let again = 0; again < 5; again += 1) expect((await tandem.app.inject('/search?q=e')).statusCode).toBe(200)
  })

  it('gives permits back after errors, bad input and unknown addresses', async () => {
    tandem = await wordTandem({ maxConcurrentRequests: 1 })
    for (const url of ['/search', '/search?q=a&k=0', '/nothing', '/items/nobody']) {
      for (let again = 0; again < 3; again += 1) expect((await tandem.app.inject(url)).statusCode).toBeLessThan(500)
    }
    expect((await tandem.app.inject('/search?q=a')).statusCode).toBe(200)
  })
})

describe('the time limit', () => {
  it('answers 503 and aborts the work', async () => {
    tandem = await wordTandem({ requestTimeoutMs: 100 })
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

describe('the abort signal', () => {
  it('is not aborted by a body that has been read, and is when the client goes', async () => {
    tandem = await wordTandem({ maxConcurrentRequests: 1 })
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

  it('keeps an add from storing what nobody waits for', async () => {
    tandem = await wordTandem()
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
  it('refuses work, says so at /health/ready, and lives', async () => {
    tandem = await wordTandem({}, false)
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
})
