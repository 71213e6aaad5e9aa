import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService()
  await put('photos/a.jpg', 'dog')
})
afterAll(() => tandem.end())

const json = { 'content-type': 'application/json' }
const dog = Buffer.from('dog').toString('base64')
const put = (id: string, word: string, headers: object = {}) =>
  tandem.app.inject({
    method: 'PUT',
    url: `/items/${encodeURIComponent(id)}`,
    payload: Buffer.from(word),
    headers: { 'content-type': 'image/jpeg', ...headers },
  })
const problem = (status: number, code: string, detail: RegExp) => ({
  statusCode: status,
  json: { code, detail: expect.stringMatching(detail) as string },
})
const seen = async (reply: Promise<{ statusCode: number; json: () => unknown }>) => {
  const { statusCode, json: read } = await reply
  return { statusCode, json: read() }
}

describe('text that is not UTF-8', () => {
  it('is refused in a JSON body, with its position', async () => {
    const payload = Buffer.from(`{"text": "Caf\xe9"}`, 'latin1')
    const reply = tandem.app.inject({ method: 'POST', url: '/search', payload, headers: json })
    expect(await seen(reply)).toMatchObject(problem(400, 'text_unreadable', /The body .*0xE9.* 13/))
  })

  it('is refused in a line of JSON, while the other lines are stored', async () => {
    const line = (id: string): string => JSON.stringify({ id, image: dog }) + '\n'
    const payload = Buffer.concat([
      Buffer.from(line('Caf\xe9'), 'latin1'),
      Buffer.from(line('Caf\xe8'), 'latin1'),
      Buffer.from(line('Caf\xe9'), 'utf8'),
    ])
    const headers = { 'content-type': 'application/x-ndjson' }
    const reply = await tandem.app.inject({ method: 'POST', url: '/items', payload, headers })
    const { items } = reply.json<{ items: { id: string; error?: { code: string } }[] }>()
    expect(items.map(({ id, error }) => error?.code ?? id)).toEqual([
      'text_unreadable',
      'text_unreadable',
      'Café',
    ])
    const { body } = await tandem.app.inject('/items?limit=1000')
    expect(body).not.toContain('\ufffd')
  })

  it.each([
    ['a file name', 'image"; filename="Caf\xe9.jpg"', 'dog', /file name/],
    ['a field', 'payload"', '{"title": "Caf\xe9"}', /field payload/],
  ])('is refused in %s of a form', async (_place, disposition, value, detail) => {
    const payload = Buffer.from(
      `--x\r\ncontent-disposition: form-data; name="${disposition}\r\n\r\n${value}\r\n--x--\r\n`,
      'latin1',
    )
    const headers = { 'content-type': 'multipart/form-data; boundary=x' }
    const reply = tandem.app.inject({ method: 'POST', url: '/items', payload, headers })
    expect(await seen(reply)).toMatchObject(problem(400, 'text_unreadable', detail))
  })

  it('is refused in percent codes of a parameter and of a path', async () => {
    expect(await seen(tandem.app.inject('/search?k=3&q=caf%E9'))).toMatchObject(
      problem(400, 'url_unreadable', /parameter q .*caf%E9/),
    )
    expect(await seen(tandem.app.inject('/items/caf%E9'))).toMatchObject(
      problem(400, 'url_unreadable', /path .*caf%E9/),
    )
    expect(await seen(tandem.app.inject('/items/a/caf%E9'))).toMatchObject(
      problem(400, 'url_unreadable', /caf%E9/),
    )
  })

  it.each([
    ['application/json', '/search', '{"text": "dog"}'],
    ['application/x-ndjson', '/items', '{}'],
    ['multipart/form-data; boundary=x', '/items', '--x--'],
  ])('is refused when the charset of %s says so', async (type, url, payload) => {
    const headers = { 'content-type': `${type}; charset=ISO-8859-1` }
    const reply = tandem.app.inject({ method: 'POST', url, payload, headers })
    expect(await seen(reply)).toMatchObject(problem(400, 'text_unreadable', /charset "ISO-8859-1"/))
  })

  it('is refused in the header of a payload, which is UTF-8', async () => {
    const header = Buffer.from('{"title": "Café"}').toString('latin1')
    expect((await put('café', 'dog', { 'x-tandem-payload': header })).statusCode).toBe(201)
    expect((await tandem.app.inject('/items/caf%C3%A9')).json()).toMatchObject({
      payload: { title: 'Café' },
    })
    const wrong = put('latin', 'dog', { 'x-tandem-payload': '{"title": "Caf\xe9"}' })
    expect(await seen(wrong)).toMatchObject(problem(400, 'text_unreadable', /x-tandem-payload/))
  })
})

describe('the URL', () => {
  it('may have bytes of UTF-8 without percent codes', async () => {
    const raw = Buffer.from('/items/café').toString('latin1')
    expect((await tandem.app.inject({ url: '/items/a' })).statusCode).toBe(404)
    const { routedUrl } = await import('../../../src/http/plugins/request-head.js')
    expect(routedUrl({ url: raw })).toBe('/items/caf%C3%A9')
  })

  it.each(['/items/photos%2Fa.jpg', '/items/photos/a.jpg'])(
    'reaches an item with a slash as %s',
    async (url) => {
      expect((await tandem.app.inject(url)).json()).toMatchObject({ id: 'photos/a.jpg' })
      expect((await tandem.app.inject(`${url}/image`)).body).toBe('dog')
    },
  )

  it('stores and removes an item with plain slashes', async () => {
    const headers = { 'content-type': 'image/jpeg' }
    const url = '/items/deep/er/b.jpg?payload=%7B%7D'
    const stored = await tandem.app.inject({ method: 'PUT', url, payload: 'cat', headers })
    expect(stored.json()).toMatchObject({ id: 'deep/er/b.jpg', status: 'created' })
    const removed = await tandem.app.inject({ method: 'DELETE', url: '/items/deep/er/b.jpg' })
    expect(removed.statusCode).toBe(204)
  })
})

describe('behind a path prefix', () => {
  it('problem types have the prefix that the proxy names', async () => {
    const typeFor = async (prefix: string) => {
      const headers = { 'x-forwarded-prefix': prefix }
      const reply = await tandem.app.inject({ url: '/items/none', headers })
      return reply.json<{ type: string }>().type
    }
    expect(await typeFor('/tandem')).toBe('/tandem/docs/errors#item_not_found')
    expect(await typeFor('//evil.example')).toBe('/docs/errors#item_not_found')
  })

  it('the OpenAPI document names its first server relative to itself', async () => {
    const { servers } = (await tandem.app.inject('/openapi.json')).json<{
      servers: { url: string }[]
    }>()
    const [first] = servers.map(({ url }) => new URL(url, 'http://a/tandem/openapi.json').href)
    expect(first).toBe('http://a/tandem/')
  })

  it.each(['/', '/docs'])('the page %s has relative links alone', async (path) => {
    const { body } = await tandem.app.inject(path)
    const links = [...body.matchAll(/\b(?:href|src)="([^"]*)"/g)].map(([, link]) => link as string)
    expect(links.length).toBeGreaterThan(2)
    expect(links.filter((link) => /^(\/|[a-z]+:)/.test(link))).toEqual([])
  })
})

describe('the head of a body', () => {
  it('is refused with 415 when it names a compression', async () => {
    const reply = put('zipped', 'dog', { 'content-encoding': 'gzip' })
    expect(await seen(reply)).toMatchObject(problem(415, 'media_type_unsupported', /"gzip"/))
  })

  it('is read in any case', async () => {
    const payload =
      '--X\r\ncontent-disposition: form-data; name="image"; filename="case"\r\n\r\ndog\r\n--X--\r\n'
    const headers = { 'content-type': 'Multipart/Form-Data; boundary=X' }
    for (const [method, url] of [
      ['PUT', '/items/case'],
      ['POST', '/items'],
    ] as const) {
      const { statusCode } = await tandem.app.inject({ method, url, payload, headers })
      expect([method, Math.floor(statusCode / 100)]).toEqual([method, 2])
    }
  })

  it('may name JSON on a DELETE without a body', async () => {
    await put('gone', 'dog')
    const reply = await tandem.app.inject({ method: 'DELETE', url: '/items/gone', headers: json })
    expect(reply.statusCode).toBe(204)
  })
})
