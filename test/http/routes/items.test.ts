import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService({ maxBodyBytes: 4096 })
})
afterAll(() => tandem.end())

function put(id: string, word: string, query = '', headers: Record<string, string> = {}) {
  return tandem.app.inject({
    method: 'PUT',
    url: `/items/${encodeURIComponent(id)}${query}`,
    payload: Buffer.from(word),
    headers: { 'content-type': 'image/jpeg', ...headers },
  })
}

const base64 = (word: string): string => Buffer.from(word).toString('base64')

describe('PUT /items/:id', () => {
  it('answers 201 for a new item and 200 for a replaced one', async () => {
    const first = await put('a', 'dog')
    expect(first.statusCode).toBe(201)
    expect(first.json()).toMatchObject({ id: 'a', status: 'created' })
    const second = await put('a', 'cat')
    expect(second.statusCode).toBe(200)
    expect(second.json()).toMatchObject({ id: 'a', status: 'replaced' })
    expect((await tandem.app.inject('/items/a/image')).body).toBe('cat')
  })

  it.each([
    'نیم\u200cفاصله',
    '👨\u200d👩\u200d👧',
    '🏴\u{e0067}\u{e0062}\u{e007f}',
    'with/slash',
    'with space',
    'ünïcödé 写真',
    'a%2Fb',
    '50% off?',
    '#1',
    'a+b',
    "it's",
  ])('stores an item with the id %j', async (id) => {
    expect((await put(id, 'dog')).statusCode).toBe(201)
    const reply = await tandem.app.inject(`/items/${encodeURIComponent(id)}`)
    expect(reply.json()).toMatchObject({ id })
  })

  it('finds and deletes every id that it takes under each encoding of the address', async () => {
    const bytes = (text: string): string =>
      [...Buffer.from(text)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')
    const perSegment = (id: string): string => id.split('/').map(encodeURIComponent).join('/')
    const encodings: ((id: string) => string)[] = [
      encodeURIComponent,
      // RFC 3986, as Python and Go encode.
      (id) => encodeURIComponent(id).replace(/[!'()*]/g, bytes),
      (id) => encodeURIComponent(id).replace(/%../g, (code) => code.toLowerCase()),
      bytes,
      // As proxies decode %2F. Slashes alone, `/image` at the end and dots are other addresses.
      (id) =>
        /^\/+$|\/image$|(^|\/)\.\.?(\/|$)/.test(id) ? encodeURIComponent(id) : perSegment(id),
    ]
    const part = fc.constantFrom(
      ...[
        '%',
        '%2F',
        '%252F',
        '%zz',
        '/',
        '//',
        '.',
        '..',
        'image',
        '?',
        '#',
        ';',
        '+',
        ' ',
        '\\',
        ':',
      ],
      ...['a', 'é', 'e\u0301', '写', '😀', '👨\u200d👩\u200d👧', '*', "'", '&', '=', '{}', '"'],
    )
    const id = fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join(''))
    await fc.assert(
      fc.asyncProperty(id, fc.constantFrom(...encodings), async (one, encode) => {
        if ((await put(one, 'dog')).statusCode >= 400) return
        const url = `/items/${encode(one)}`
        expect((await tandem.app.inject(url)).json()).toMatchObject({ id: one })
        expect((await tandem.app.inject(`${url}/image`)).body).toBe('dog')
        expect((await tandem.app.inject({ method: 'DELETE', url })).statusCode).toBe(204)
        expect((await tandem.app.inject(`/items/${encodeURIComponent(one)}`)).statusCode).toBe(404)
      }),
      { numRuns: 150 },
    )
  })

  it.each([
    '',
    ' a',
    'a ',
    '..',
    'a\u0000b',
    'a\nb',
    'a\u202eb',
    '\u200b\u200d',
    'x'.repeat(257),
    '写'.repeat(257),
  ])('refuses the id %j', async (id) => {
    const { statusCode } = await put(id, 'dog')
    // An empty id and ".." arrive as another address.
    expect(statusCode).toBeGreaterThanOrEqual(400)
    expect(statusCode).toBeLessThan(500)
  })

  it('stores under If-None-Match: * only when the id is free, also for two at once', async () => {
    const free = { 'if-none-match': '*' }
    const replies = await Promise.all(['one', 'two'].map((word) => put('once', word, '', free)))
    expect(replies.map(({ statusCode }) => statusCode).sort()).toEqual([201, 412])
    const late = await put('once', 'three', '', free)
    expect(late.json()).toMatchObject({ status: 412, code: 'precondition_failed' })
    expect((await tandem.app.inject('/items/once/image')).body).not.toBe('three')
  })

  it('stores under If-Match only when the item is still the same', async () => {
    const tag = async (path: string): Promise<string> =>
      (await tandem.app.inject(path)).headers.etag as string
    const status = async (match: string) =>
      (await put('matched', 'dog', '', { 'if-match': match })).statusCode
    expect(await status('*')).toBe(412)
    await put('matched', 'cat')
    expect(await status('*')).toBe(200)
    const read = await tag('/items/matched')
    await put('matched', 'cat', '?payload={"n":1}')
    expect(await status(read)).toBe(412)
    expect(await status(await tag('/items/matched'))).toBe(200)
    expect(await status(await tag('/items/matched/image'))).toBe(200)
    expect(await status('"other"')).toBe(412)
  })

  it('accepts base64 with line breaks', async () => {
    const image = base64('a dog on a beach').replace(/(.{8})/g, '$1\r\n')
    const reply = await tandem.app.inject({ method: 'PUT', url: '/items/mime', payload: { image } })
    expect(reply.statusCode).toBe(201)
    expect((await tandem.app.inject('/items/mime/image')).body).toBe('a dog on a beach')
  })

  it('accepts an id of 256 characters of four bytes each', async () => {
    expect((await put('😀'.repeat(256), 'dog')).statusCode).toBe(201)
  })

  it('accepts the payload in the address, a header, JSON or a form', async () => {
    const payload = { title: 'A dog', tags: ['x'], nested: { deep: true } }
    const text = JSON.stringify(payload)
    await put('p1', 'dog', `?payload=${encodeURIComponent(text)}`)
    await put('p2', 'dog', '', { 'x-tandem-payload': text })
    await tandem.app.inject({
      method: 'PUT',
      url: '/items/p3',
      payload: { image: base64('dog'), payload },
    })
    const form = new FormData()
    form.append('payload', text)
    form.append('image', new Blob(['dog']), 'dog.jpg')
    await tandem.app.inject({ method: 'PUT', url: '/items/p4', payload: form })
    for (const id of ['p1', 'p2', 'p3', 'p4']) {
      expect(
        (await tandem.app.inject(`/items/${id}`)).json<{ payload: unknown }>().payload,
        id,
      ).toEqual(payload)
    }
  })

  it.each([
    ['a payload that is no JSON', '?payload={', 422, 'payload_invalid'],
    ['a payload that is a list', '?payload=[1]', 422, 'invalid_request'],
    ['a payload with __proto__', '?payload={"__proto__":{"a":1}}', 422, 'payload_invalid'],
    ['an unknown parameter', '?paylaod={}', 422, 'invalid_request'],
  ])('refuses %s', async (_what, query, status, code) => {
    const reply = await put('refused', 'dog', query)
    expect([reply.statusCode, reply.json<{ code: string }>().code]).toEqual([status, code])
    expect((await tandem.app.inject('/items/refused')).statusCode).toBe(404)
  })

  it('refuses an unreadable image and stores nothing', async () => {
    const reply = await put('broken', 'bad image')
    expect(reply.statusCode).toBe(422)
    expect(reply.json()).toMatchObject({ code: 'image_unreadable' })
    expect((await tandem.app.inject('/items/broken')).statusCode).toBe(404)
    expect(tandem.index.has('broken')).toBe(false)
  })

  it('names an unsupported Content-Type in the error', async () => {
    const reply = await put('typed', 'dog', '', { 'content-type': 'text/plain' })
    expect(reply.statusCode).toBe(415)
    expect(reply.json<{ detail: string }>().detail).toContain('text/plain')
  })

  it('refuses a body above the limit', async () => {
    const reply = await put('large', 'x'.repeat(5000))
    expect(reply.statusCode).toBe(413)
    expect(reply.json<{ detail: string }>().detail).toContain('4096')
  })
})

describe('GET /items/:id/image', () => {
  it('sends the stored image with an ETag, and 304 if the client has it', async () => {
    await put('seen', 'dog')
    const first = await tandem.app.inject('/items/seen/image')
    expect(first.headers).toMatchObject({
      'content-type': 'image/jpeg',
      'x-content-type-options': 'nosniff',
    })
    expect(first.headers['content-security-policy']).toContain('sandbox')
    const headers = { 'if-none-match': String(first.headers.etag) }
    expect((await tandem.app.inject({ url: '/items/seen/image', headers })).statusCode).toBe(304)
    await put('seen', 'cat')
    expect((await tandem.app.inject({ url: '/items/seen/image', headers })).statusCode).toBe(200)
  })

  it('answers 404 without cache headers for an unknown id', async () => {
    const reply = await tandem.app.inject('/items/nobody/image')
    expect(reply.statusCode).toBe(404)
    expect(reply.headers.etag).toBeUndefined()
  })
})

describe('DELETE /items/:id', () => {
  it('removes the item and answers 404 the second time', async () => {
    await put('gone', 'dog')
    expect((await tandem.app.inject({ method: 'DELETE', url: '/items/gone' })).statusCode).toBe(204)
    const again = await tandem.app.inject({ method: 'DELETE', url: '/items/gone' })
    expect(again.statusCode).toBe(404)
    expect(again.json()).toMatchObject({
      code: 'item_not_found',
      detail: 'There is no item with the id "gone".',
    })
    expect(tandem.index.has('gone')).toBe(false)
  })
})

describe('GET /items', () => {
  it.each(['1e1', '0x10', '%2010', '10.', '+1', ''])(
    'takes no limit that is not a decimal number: %j',
    async (limit) => {
      const reply = await tandem.app.inject(`/items?limit=${limit}`)
      expect(reply.json()).toMatchObject({ status: 422, code: 'invalid_request' })
    },
  )

  it('ends a page after 1 MiB of payloads', async () => {
    const service = await startTestService()
    const ids = Array.from({ length: 50 }, (_, at) => `large-${String(at).padStart(2, '0')}`)
    for (const id of ids) {
      const payload = { image: base64('dog'), payload: { text: 'x'.repeat(60_000) } }
      await service.app.inject({ method: 'PUT', url: `/items/${id}`, payload })
    }
    interface Page {
      items: { id: string }[]
      next: string | null
    }
    const pages: string[][] = []
    let after = ''
    for (;;) {
      const reply = await service.app.inject(`/items?limit=1000${after}`)
      const { items, next } = reply.json<Page>()
      expect(reply.body.length).toBeLessThan(2 ** 20 + 100_000)
      pages.push(items.map(({ id }) => id))
      if (next === null) break
      expect(next).toBe(items.at(-1)?.id)
      after = `&after=${next}`
    }
    expect(pages.map(({ length }) => length)).toEqual([18, 18, 14])
    expect(pages.flat()).toEqual(ids)
    await service.end()
  })

  it('lists every id once, in order, over all pages', async () => {
    const ids: string[] = []
    let after: string | null = null
    do {
      const query: string = after === null ? '' : `&after=${encodeURIComponent(after)}`
      const reply = await tandem.app.inject(`/items?limit=3${query}`)
      const page: { items: { id: string }[]; next: string | null } = reply.json()
      expect(page.items.length).toBeLessThanOrEqual(3)
      ids.push(...page.items.map(({ id }) => id))
      after = page.next
    } while (after !== null)
    expect(ids.length).toBe(tandem.retrieval.stats().items)
    expect(new Set(ids).size).toBe(ids.length)
  })
})
