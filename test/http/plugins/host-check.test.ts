import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

type Headers = Record<string, string>

const own = '127.0.0.1:3000'
const image = Buffer.from('dog').toString('base64')
let local: TestService
let open: TestService
let named: TestService

beforeAll(async () => {
  local = await startTestService()
  open = await startTestService({ host: '0.0.0.0' })
  named = await startTestService({ host: '0.0.0.0', allowedHosts: ['photos.example.org'] })
})
afterAll(() => Promise.all([local, open, named].map((tandem) => tandem.end())))

const get = (tandem: TestService, headers: Headers, url = '/search?q=a') =>
  tandem.app.inject({ url, headers })
const put = (headers: Headers, tandem = local) =>
  tandem.app.inject({
    method: 'PUT',
    url: '/items/a',
    payload: { image },
    headers: { host: own, ...headers },
  })

describe('the Host header on a loopback address', () => {
  it.each([
    own,
    'localhost',
    'localhost:80',
    'LOCALHOST:3000',
    'localhost.',
    '[::1]:3000',
    '127.1.2.3',
  ])('may be %s', async (host) => {
    expect((await get(local, { host })).statusCode).toBe(200)
  })

  it.each([
    'evil.example',
    'evil.example:3000',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'localhost@evil.example',
    'evil.example#localhost',
    '192.168.1.5',
    '[::2]',
    'localhost:99:99',
    'localhost:port',
    'a b',
  ])('may not be %s, on any route', async (host) => {
    for (const url of ['/search?q=a', '/', '/health/live', '/openapi.json', '/nothing']) {
      const reply = await get(local, { host }, url)
      expect(reply.json(), url).toMatchObject({ status: 403, code: 'host_not_allowed' })
      expect(reply.json<{ detail: string }>().detail).toContain(JSON.stringify(host))
    }
  })
})

describe('the Host header on another address', () => {
  it('may be any name without ALLOWED_HOSTS', async () => {
    expect((await get(open, { host: 'photos.example.org' })).statusCode).toBe(200)
  })

  it.each([
    ['photos.example.org', 200],
    ['Photos.Example.org:8080', 200],
    ['localhost:3000', 200],
    // An orchestrator's probe.
    ['10.1.2.3:3000', 200],
    ['[fd00::1]:3000', 200],
    ['evil.example', 403],
    ['x.photos.example.org', 403],
    ['10.1.2.3.evil.example', 403],
  ])('must be in ALLOWED_HOSTS: %s is answered %i', async (host, status) => {
    expect((await get(named, { host })).statusCode).toBe(status)
  })
})

describe('a write', () => {
  it.each<Headers>([
    {},
    { 'sec-fetch-site': 'same-origin', origin: `http://${own}` },
    { 'sec-fetch-site': 'none' },
    { origin: `http://${own}` },
    { origin: 'http://LOCALHOST:3000', host: 'localhost:3000' },
    // A proxy that speaks https and keeps Host.
    { origin: 'https://localhost', host: 'localhost' },
  ])(
    'of a page of this service, or of a client that is not a browser, is accepted: %j',
    async (headers) => {
      expect([200, 201]).toContain((await put(headers)).statusCode)
    },
  )

  it.each<Headers>([
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site', origin: `http://${own}` },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' },
    { 'sec-fetch-site': 'nonsense' },
    { origin: 'http://evil.example' },
    { origin: 'http://127.0.0.1:8080' },
    { origin: 'http://127.0.0.1' },
    { origin: `http://${own}.evil.example` },
    { origin: `http://${own}@evil.example` },
    { origin: 'null' },
    { origin: '' },
    { origin: 'not an origin' },
  ])('of a page of another site is refused: %j', async (headers) => {
    await local.app.inject({ method: 'DELETE', url: '/items/a' })
    expect((await put(headers)).json()).toMatchObject({ status: 403, code: 'origin_not_allowed' })
    expect((await local.app.inject('/items/a')).statusCode).toBe(404)
  })

  it('of a form on another site, which needs no CORS preflight, is refused', async () => {
    const reply = await local.app.inject({
      method: 'POST',
      url: '/items',
      payload:
        '--b\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\ndog\r\n--b--',
      headers: { origin: 'http://evil.example', 'content-type': 'multipart/form-data; boundary=b' },
    })
    expect(reply.json()).toMatchObject({ code: 'origin_not_allowed' })
  })

  it('through a proxy that rewrites Host is accepted from a name in ALLOWED_HOSTS', async () => {
    const headers = { host: '10.1.2.3:3000', origin: 'https://photos.example.org' }
    expect((await put(headers, named)).statusCode).toBe(201)
    expect((await put({ ...headers, origin: 'https://evil.example' }, named)).statusCode).toBe(403)
  })
})

describe('a read', () => {
  const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }

  it.each(['/', '/docs', '/docs/errors', '/health/ready'])(
    'of a link on another site to %s is accepted',
    async (url) => {
      expect((await get(local, link, url)).statusCode).toBe(200)
    },
  )

  it.each([
    ['/items', link],
    ['/search?q=a', link],
    ['/search?q=a', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }],
    ['/', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }],
    ['/items', { origin: 'http://evil.example' }],
  ] as [string, Headers][])(
    'of a page of another site to %s is refused: %j',
    async (url, headers) => {
      expect((await get(local, headers, url)).json()).toMatchObject({ code: 'origin_not_allowed' })
    },
  )

  it('gets no CORS headers for a preflight of another site', async () => {
    const asked = await local.app.inject({
      method: 'OPTIONS',
      url: '/items/a',
      headers: { origin: 'http://evil.example', 'access-control-request-method': 'PUT' },
    })
    expect(asked.statusCode).toBe(403)
    expect(Object.keys(asked.headers).filter((name) => name.startsWith('access-control'))).toEqual(
      [],
    )
  })
})
