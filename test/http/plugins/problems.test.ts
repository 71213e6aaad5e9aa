import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService()
})
afterAll(() => tandem.end())

const post = (url: string, payload: string | undefined, type: string | undefined) =>
  tandem.app.inject({
    method: 'POST',
    url,
    ...(payload === undefined ? {} : { payload }),
    headers: type === undefined ? {} : { 'content-type': type },
  })

describe('problem+json', () => {
  it.each([
    ['no body', undefined, undefined, 400, 'body_missing'],
    ['an empty JSON body', '', 'application/json', 400, 'body_missing'],
    ['broken JSON', '{"inputs": [', 'application/json', 400, 'body_unreadable'],
    [
      '__proto__ in JSON',
      '{"inputs": [{"text": "a"}], "__proto__": {"x": 1}}',
      'application/json',
      400,
      'body_unreadable',
    ],
    [
      'constructor.prototype in JSON',
      '{"inputs": [{"text": "a"}], "constructor": {"prototype": {}}}',
      'application/json',
      400,
      'body_unreadable',
    ],
    ['JSON null', 'null', 'application/json', 422, 'invalid_request'],
    ['a form without a boundary', 'x', 'multipart/form-data', 400, 'body_unreadable'],
    [
      'a form cut off',
      '--b\r\ncontent-disposition: form-data; name="text"\r\n\r\nhel',
      'multipart/form-data; boundary=b',
      400,
      'body_unreadable',
    ],
    [
      'a form of another kind',
      'a=1',
      'application/x-www-form-urlencoded',
      415,
      'media_type_unsupported',
    ],
    ['plain text', 'hello', 'text/plain', 415, 'media_type_unsupported'],
    ['a body without a Content-Type', 'hello', undefined, 415, 'media_type_unsupported'],
  ])('for %s', async (_what, payload, type, status, code) => {
    const reply = await post('/embed', payload, type)
    expect(reply.headers['content-type']).toBe('application/problem+json')
    const problem = reply.json<Record<string, unknown>>()
    expect(problem).toMatchObject({ type: `/docs/errors#${code}`, status, code })
    expect(reply.statusCode).toBe(status)
    expect(Object.keys(problem).sort()).toEqual([
      'code',
      'detail',
      'instance',
      'status',
      'title',
      'type',
    ])
  })

  it('for a URL with an invalid percent code', async () => {
    const reply = await tandem.app.inject('/items/%zz')
    expect(reply.json()).toMatchObject({ status: 400, code: 'url_unreadable' })
  })

  it('for an id of 5,000 characters', async () => {
    const reply = await tandem.app.inject(`/items/${'x'.repeat(5000)}`)
    expect(reply.statusCode).toBeGreaterThanOrEqual(400)
    expect(reply.statusCode).toBeLessThan(500)
    expect(reply.headers['content-type']).toContain('application/problem+json')
  })

  it('for a fault of the service hides the cause', async () => {
    tandem.models.gate = () => Promise.reject(new Error('secret path /var/x'))
    const reply = await tandem.app.inject('/search?q=a')
    tandem.models.gate = () => Promise.resolve()
    expect(reply.json()).toMatchObject({ status: 500, code: 'internal_error' })
    expect(reply.body).not.toMatch(/secret|at .*\.ts/)
  })
})

describe('an unknown route', () => {
  it('is 404', async () => {
    expect((await tandem.app.inject('/nothing/here')).json()).toMatchObject({
      status: 404,
      code: 'route_not_found',
    })
  })

  it.each([
    ['GET', '/embed', 'POST'],
    ['POST', '/items/a', 'DELETE, GET, HEAD, PUT'],
    ['DELETE', '/items', 'GET, HEAD, POST'],
    ['PATCH', '/items/a%2Fb', 'DELETE, GET, HEAD, PUT'],
    ['PUT', '/search', 'GET, HEAD, POST'],
    ['POST', '/health/live', 'GET, HEAD'],
  ] as const)('for %s %s is 405 with Allow', async (method, url, allow) => {
    const reply = await tandem.app.inject({ method, url })
    expect(reply.statusCode).toBe(405)
    expect(reply.headers.allow).toBe(allow)
    expect(reply.json()).toMatchObject({ code: 'method_not_allowed' })
  })
})

describe('every reply', () => {
  const SECURITY = {
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    'cross-origin-resource-policy': 'same-origin',
  }

  it.each(['/', '/items', '/nothing', '/docs/errors', '/openapi.json'])(
    'at %s has security headers',
    async (url) => {
      const { headers } = await tandem.app.inject(url)
      expect(headers).toMatchObject(SECURITY)
      expect(headers['content-security-policy']).toContain("default-src 'none'")
    },
  )

  it('has these security headers and no others', async () => {
    const { headers } = await tandem.app.inject('/items')
    const others = [
      'cache-control',
      'content-type',
      'content-length',
      'date',
      'connection',
      'traceresponse',
    ]
    expect(
      Object.keys(headers)
        .filter((name) => !others.includes(name))
        .sort(),
    ).toEqual([...Object.keys(SECURITY), 'content-security-policy'].sort())
    expect(headers['content-security-policy']).toBe("default-src 'none';frame-ancestors 'none'")
  })
})
