/** Hostile input is refused with a clear error or works as any other; it never causes a 500. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Problem } from '../../../src/http/schemas/fields.js'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService
beforeAll(async () => {
  tandem = await startTestService()
})
afterAll(() => tandem.end())
afterEach(async () => {
  expect((await tandem.app.inject('/search?q=dog')).statusCode).toBe(200)
})

const image = Buffer.from('dog').toString('base64')
const send = (
  method: 'POST' | 'PUT',
  url: string,
  payload: string | Buffer,
  type = 'application/json',
) => tandem.app.inject({ method, url, payload, headers: { 'content-type': type } })
const nested = (depth: number): string => `${'['.repeat(depth)}${']'.repeat(depth)}`

describe('texts', () => {
  it.each([
    '\\ud800',
    'a\\udfffb',
    'a\\u0000b',
    '\\u001b[31mred',
    '\\u202egod',
    '👩‍👩‍👧 \\ud83d\\ude00',
    'שלום עולם',
    '\\uffff',
  ])('the text "%s" is searched and embedded like any other', async (text) => {
    expect((await send('POST', '/search', `{"text": "${text}"}`)).statusCode).toBe(200)
    expect((await send('POST', '/embed', `{"inputs": [{"text": "${text}"}]}`)).statusCode).toBe(200)
  })
})

describe('ids', () => {
  it.each(['%00', 'a%0ab', '%1b', '%e2%80%ae', '%20a', '%2e%2e', '%2e', '%e2%80%a8', '%7f'])(
    'the id %s is refused',
    async (id) => {
      const reply = await send('PUT', `/items/${id}`, JSON.stringify({ image }))
      expect([404, 405, 422], reply.body).toContain(reply.statusCode)
    },
  )

  it.each([
    '..%2f..%2fetc%2fpasswd',
    '%2e%2e%2fx',
    'a%252e%252e',
    '%F0%9F%98%80',
    '__proto__',
    'constructor',
    '%D7%A9%D7%9C',
  ])('%s is accepted as an id', async (id) => {
    expect((await send('PUT', `/items/${id}`, JSON.stringify({ image }))).statusCode).toBe(201)
    const found = await tandem.app.inject(`/items/${id}`)
    expect(found.json()).toMatchObject({ id: decodeURIComponent(id) })
    expect((await tandem.app.inject(`/items/${id}/image`)).body).toBe('dog')
  })

  it('an id with a lone surrogate is refused', async () => {
    const reply = await send(
      'POST',
      '/items',
      `{"id": "a\\ud800", "image": "${image}"}`,
      'application/x-ndjson',
    )
    expect(reply.json()).toMatchObject({
      created: 0,
      items: [{ error: { code: 'invalid_request' } }],
    })
  })
})

describe('JSON', () => {
  it.each([
    ['/search', nested(100_000)],
    ['/search', `{"text": ${nested(100_000)}}`],
    ['/embed', `{"inputs": ${nested(100_000)}}`],
    ['/search', '{"text": "dog", "k": 1e400}'],
    ['/search', `{"text": "dog", "k": ${'9'.repeat(400)}}`],
    ['/search', '{"text": "dog", "k": -0.1e-400}'],
  ])('%s refuses JSON that is nested too deep or has numbers out of range', async (url, body) => {
    const reply = await send('POST', url, body)
    expect([400, 422], reply.body.slice(0, 300)).toContain(reply.statusCode)
    expect(reply.json<Problem>().detail.length).toBeLessThan(1000)
  })

  it.each(['/search', '/embed', '/rerank'])(
    '%s refuses JSON of more than 50,000 values',
    async (url) => {
      const reply = await send('POST', url, `{"text": [${'{},'.repeat(100_000)}{}]}`)
      expect(reply.json<Problem>()).toMatchObject({
        status: 400,
        code: 'body_unreadable',
        detail: expect.stringContaining('more than 50000 values') as string,
      })
    },
  )

  it('a body of PUT /reembedding has 65,536 bytes at most', async () => {
    const put = (bytes: number) =>
      send('PUT', '/reembedding', `{"model":"${'a'.repeat(bytes - 12)}"}`)
    expect((await put(65_537)).json<Problem>()).toMatchObject({
      status: 413,
      code: 'body_too_large',
    })
    expect((await put(65_536)).statusCode).toBe(422)
  })

  it.each([
    ['/search', '{"text": "dog", "k": 5, "k": 1}', '"k"'],
    ['/search', '{"text": "dog", "k": 5, "\\u006b": 1}', '"k"'],
    ['/embed', '{"inputs": [{"text": "a"}], "inputs": [{"text": "b"}]}', '"inputs"'],
    ['/rerank', '{"query": "a", "documents": [{"text": "a", "text": "b"}]}', '"text"'],
  ])('%s refuses %s for a repeated name', async (url, body, name) => {
    const reply = await send('POST', url, body)
    expect(reply.json<Problem>()).toMatchObject({ status: 400, code: 'body_unreadable' })
    expect(reply.json<Problem>().detail).toContain(name)
  })

  it('an integer that a double cannot hold exactly is refused', async () => {
    const reply = await send(
      'PUT',
      '/items/big',
      `{"image": "${image}", "payload": {"id": 9007199254740993}}`,
    )
    expect(reply.json<Problem>()).toMatchObject({
      status: 400,
      detail: expect.stringContaining('9007199254740993') as string,
    })
    expect(
      (
        await send(
          'PUT',
          '/items/big',
          `{"image": "${image}", "payload": {"id": -9007199254740992}}`,
        )
      ).statusCode,
    ).toBe(201)
  })

  it.each([
    ['nested too deeply', `{"a": ${nested(10_000)}}`],
    ['with a number beyond range', '{"a": 1e400}'],
  ])('a payload %s is refused and nothing is stored', async (_what, payload) => {
    const inJson = await send(
      'PUT',
      '/items/refused',
      `{"image": "${image}", "payload": ${payload}}`,
    )
    expect(inJson.json(), inJson.body.slice(0, 300)).toMatchObject({
      status: 422,
      code: 'payload_invalid',
    })
    const lines = await send(
      'POST',
      '/items',
      `{"id": "refused", "image": "${image}", "payload": ${payload}}`,
      'application/x-ndjson',
    )
    expect(lines.json()).toMatchObject({ items: [{ error: { code: 'payload_invalid' } }] })
    expect((await tandem.app.inject('/items/refused')).statusCode).toBe(404)
  })

  it('a payload may be nested 100 levels deep at most', async () => {
    // The payload itself is one level.
    const put = (levels: number) =>
      send('PUT', '/items/deep', `{"image": "${image}", "payload": {"a": ${nested(levels - 1)}}}`)
    expect((await put(101)).statusCode).toBe(422)
    expect((await put(100)).statusCode).toBe(201)
    expect((await tandem.app.inject('/items/deep')).statusCode).toBe(200)
  })

  it('a payload returns unusual text unchanged', async () => {
    const payload = { 'a\u0000b': '\ud800 \u202e 👩‍👧', deep: [[[[1e308]]]] }
    expect((await send('PUT', '/items/odd', JSON.stringify({ image, payload }))).statusCode).toBe(
      201,
    )
    expect((await tandem.app.inject('/items/odd')).json()).toMatchObject({ payload })
  })
})

describe('forms and lines', () => {
  const part = (name: string, more = ''): string =>
    `--b\r\ncontent-disposition: form-data; name="${name}"${more}\r\n\r\nx\r\n`
  it.each([
    ['fields', part('text').repeat(5000)],
    ['files', part('image', '; filename="a"').repeat(5000)],
  ])('a form with thousands of %s is refused', async (_what, parts) => {
    const reply = await send('POST', '/embed', `${parts}--b--`, 'multipart/form-data; boundary=b')
    expect(reply.json()).toMatchObject({ status: 413, code: 'batch_too_large' })
  })

  it('a line of 50 MB is refused and the next line is stored', async () => {
    const long = Buffer.alloc(50_000_000, 'a')
    const body = Buffer.concat([long, Buffer.from(`\n{"id": "behind", "image": "${image}"}`)])
    const reply = await tandem.app.inject({
      method: 'POST',
      url: '/items',
      payload: body,
      headers: { 'content-type': 'application/x-ndjson' },
    })
    expect(reply.json()).toMatchObject({
      created: 1,
      items: [{ error: { code: 'body_too_large' } }, { id: 'behind' }],
    })
  })
})
