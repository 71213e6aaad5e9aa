import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../support/test-service.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService()
})
afterAll(() => tandem.end())

describe('a document', () => {
  it.each([
    '/',
    '/app.js',
    '/docs',
    '/docs/static/swagger-ui.css',
    '/docs/errors',
    '/openapi.json',
  ])('at %s has an ETag, and is 304 for a client that has it', async (url) => {
    const first = await tandem.app.inject(url)
    const { etag } = first.headers
    expect([first.statusCode, first.headers['cache-control']]).toEqual([200, 'no-cache'])
    expect(etag).toMatch(/^"[\w-]{22}"$/)
    const again = await tandem.app.inject({ url, headers: { 'if-none-match': String(etag) } })
    expect([again.statusCode, again.body, again.headers.etag]).toEqual([304, '', etag])
    const other = await tandem.app.inject({ url, headers: { 'if-none-match': '"other"' } })
    expect([other.statusCode, other.body]).toEqual([200, first.body])
  })

  it('at /docs/ redirects to /docs', async () => {
    const { statusCode, headers } = await tandem.app.inject('/docs/')
    expect(statusCode).toBe(302)
    expect(new URL(String(headers.location), 'http://service/docs/').pathname).toBe('/docs')
  })
})
