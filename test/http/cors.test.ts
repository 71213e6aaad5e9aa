import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../support/test-service.js'

type Headers = Record<string, string>

const page = 'https://app.example.org'
const key = 'a-key-for-tests'
const cross = { origin: page, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' }
const preflight = { ...cross, 'access-control-request-method': 'PUT' }
const image = Buffer.from('dog').toString('base64')
let listed: TestService
let locked: TestService
let closed: TestService

beforeAll(async () => {
  const allowedOrigins = [page, 'app://photos']
  listed = await startTestService({ allowedOrigins })
  locked = await startTestService({ allowedOrigins, apiKeys: [key], rateLimitPerSecond: 1000 })
  closed = await startTestService()
})
afterAll(() => Promise.all([listed, locked, closed].map((tandem) => tandem.end())))

const ask = (tandem: TestService, method: 'GET' | 'OPTIONS', url: string, headers: Headers) =>
  tandem.app.inject({ method, url, headers })
const corsHeaders = (headers: object) =>
  Object.entries(headers).filter(([name]) => name.startsWith('access-control-'))

describe('a page of a listed origin', () => {
  it.each<Headers>([cross, { origin: page }, { origin: 'app://photos' }])(
    'searches and reads the reply: %j',
    async (headers) => {
      const reply = await ask(listed, 'GET', '/search?q=a', headers)
      expect(reply.statusCode).toBe(200)
      expect(reply.headers['access-control-allow-origin']).toBe(headers['origin'])
      expect(reply.headers.vary).toMatch(/\borigin\b/i)
      expect(reply.headers['access-control-expose-headers']).toContain('server-timing')
    },
  )

  it('adds an item and reads its image', async () => {
    const put = await listed.app.inject({
      method: 'PUT',
      url: '/items/a',
      payload: { image },
      headers: cross,
    })
    expect(put.statusCode).toBe(201)
    const read = await ask(listed, 'GET', '/items/a/image', cross)
    expect(read.body).toBe('dog')
    expect(read.headers['access-control-allow-origin']).toBe(page)
  })

  it.each([
    ['GET', '/search?k=0', 422],
    ['GET', '/items/nobody', 404],
    ['GET', '/nothing', 404],
    ['GET', '/items/%zz', 400],
    ['GET', `/items/${'x'.repeat(4000)}`, 422],
    ['POST', '/items/a', 405],
    ['POST', '/embed', 400],
  ] as const)('reads an error: %s %s is %i', async (method, url, status) => {
    const reply = await listed.app.inject({ method, url, headers: cross })
    expect(reply.statusCode).toBe(status)
    expect(reply.headers['content-type']).toContain('application/problem+json')
    expect(reply.headers['access-control-allow-origin']).toBe(page)
  })

  it('is not allowed credentials', async () => {
    for (const [method, headers] of [
      ['GET', { ...cross, cookie: 'a=b' }],
      ['OPTIONS', preflight],
    ] as const) {
      const reply = await ask(listed, method, '/items', headers)
      expect(reply.headers['access-control-allow-origin']).toBe(page)
      expect(reply.headers).not.toHaveProperty('access-control-allow-credentials')
    }
  })
})

describe('a preflight of a listed origin', () => {
  it.each(['/items/a', '/search', '/embed', '/nothing'])(
    'is answered without a key and without work: %s',
    async (url) => {
      const names = 'authorization, content-type, x-stainless-lang'
      const reply = await ask(locked, 'OPTIONS', url, {
        ...preflight,
        'access-control-request-headers': names,
      })
      expect(reply.statusCode).toBe(204)
      expect(reply.body).toBe('')
      expect(reply.headers).toMatchObject({
        'access-control-allow-origin': page,
        'access-control-allow-methods': 'GET, HEAD, POST, PUT, DELETE',
        'access-control-allow-headers': names,
        'access-control-max-age': '600',
      })
      expect(reply.headers.vary).toMatch(/origin.*access-control-request-headers/i)
    },
  )

  it('is answered before the service is ready', async () => {
    const starting = await startTestService({ allowedOrigins: [page] }, false)
    expect((await ask(starting, 'OPTIONS', '/items', preflight)).statusCode).toBe(204)
    const refused = await ask(starting, 'GET', '/items', cross)
    expect(refused.json()).toMatchObject({ code: 'not_ready' })
    expect(refused.headers['access-control-allow-origin']).toBe(page)
    await starting.end()
  })
})

describe('API keys', () => {
  it.each<[Headers, number]>([
    [{}, 401],
    [{ authorization: 'Bearer another-key' }, 401],
    [{ authorization: `Bearer ${key}` }, 200],
    [{ 'x-api-key': key }, 200],
  ])('apply to a page of a listed origin: %j is %i', async (headers, status) => {
    const reply = await ask(locked, 'GET', '/search?q=a', { ...cross, ...headers })
    expect(reply.statusCode).toBe(status)
    expect(reply.headers['access-control-allow-origin']).toBe(page)
  })
})

describe('a page of another origin', () => {
  it.each([
    'https://app.example.org.evil.example',
    'https://evil.app.example.org',
    'http://app.example.org',
    'https://app.example.org:8443',
    'https://APP.example.org',
    'https://app.example.org/',
    'https://app.example.org, https://app.example.org',
    'app://photos.evil',
    'null',
    '*',
    '',
  ])('is refused and gets no CORS headers: %j', async (origin) => {
    for (const [method, headers] of [
      ['GET', { ...cross, origin }],
      ['GET', { origin }],
      ['OPTIONS', { ...preflight, origin }],
    ] as const) {
      const reply = await ask(listed, method, '/items', headers)
      expect(reply.json()).toMatchObject({ status: 403, code: 'origin_not_allowed' })
      expect(corsHeaders(reply.headers)).toEqual([])
      expect(reply.headers.vary).toMatch(/\borigin\b/i)
    }
  })

  it('is refused where it sends no Origin', async () => {
    const headers = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }
    const reply = await ask(listed, 'GET', '/items/a/image', headers)
    expect(reply.json()).toMatchObject({ code: 'origin_not_allowed' })
  })
})

describe('without ALLOWED_ORIGINS', () => {
  it('no origin is allowed and no reply has CORS headers', async () => {
    for (const [method, headers] of [
      ['GET', cross],
      ['OPTIONS', preflight],
    ] as const) {
      const reply = await ask(closed, method, '/items', headers)
      expect(reply.json()).toMatchObject({ code: 'origin_not_allowed' })
      expect(corsHeaders(reply.headers)).toEqual([])
    }
  })

  it('and with it, a client that is not a browser gets the same reply to OPTIONS', async () => {
    for (const [url, status] of [
      ['/items', 405],
      ['/nothing', 404],
    ] as const) {
      for (const tandem of [closed, listed]) {
        const reply = await ask(tandem, 'OPTIONS', url, {})
        expect(reply.statusCode, url).toBe(status)
        expect(corsHeaders(reply.headers)).toEqual([])
      }
      const { headers } = await ask(closed, 'OPTIONS', url, {})
      expect((await ask(listed, 'OPTIONS', url, {})).headers.allow).toBe(headers.allow)
    }
  })

  it('and with it, the OpenAPI document is the same', async () => {
    const [without, allowing] = await Promise.all(
      [closed, listed].map(async ({ app }) => (await app.inject('/openapi.json')).json<object>()),
    )
    expect(allowing).toEqual(without)
  })
})
