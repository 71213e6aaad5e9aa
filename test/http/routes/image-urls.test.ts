/** Images that requests give as URLs, through every route that takes images. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Problem } from '../../../src/http/schemas/fields.js'
import { startTestService, type TestService } from '../../support/test-service.js'

// A test can only connect to an address of this machine.
vi.mock('../../../src/image-fetch/addresses.js', () => ({
  isPublicAddress: (address: string) => address === '127.0.0.1',
}))

let server: Server
let tandem: TestService
let here: string
let asked = 0

beforeAll(async () => {
  server = createServer((request, reply) => {
    asked += 1
    const word = decodeURIComponent(request.url?.slice(1) ?? '')
    if (word === 'slow') return
    reply.setHeader('content-type', word === 'page' ? 'text/html' : 'image/jpeg').end(word)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  here = `http://${host}`
  tandem = await startTestService({
    allowedImageHosts: [host],
    maxBodyBytes: 2000,
    requestTimeoutMs: 1000,
  })
})
afterAll(async () => {
  await tandem.end()
  server.closeAllConnections()
  server.close()
})

const post = (url: string, payload: object) => tandem.app.inject({ method: 'POST', url, payload })
const lines = (...items: object[]) =>
  tandem.app.inject({
    method: 'POST',
    url: '/items',
    payload: items.map((item) => JSON.stringify(item)).join('\n'),
    headers: { 'content-type': 'application/x-ndjson' },
  })

describe('an image given as a URL', () => {
  it('PUT /items/:id stores it like an uploaded image', async () => {
    const reply = await tandem.app.inject({
      method: 'PUT',
      url: '/items/a',
      payload: { image: `${here}/dog`, payload: { a: 1 } },
    })
    expect(reply.statusCode).toBe(201)
    expect((await tandem.app.inject('/items/a/image')).body).toBe('dog')
  })

  it('POST /items stores each line with its own outcome', async () => {
    const reply = await lines(
      { id: 'b', image: `${here}/cat` },
      { id: 'c', image: `${here}/page` },
      { id: 'd', image: 'http://b.example/' },
      { id: 'e', image: `${here}/bad image` },
    )
    expect(reply.json()).toMatchObject({
      created: 1,
      failed: 3,
      items: [
        { id: 'b', status: 'created' },
        { id: 'c', error: { code: 'image_type_unsupported' } },
        { id: 'd', error: { code: 'image_url_not_allowed' } },
        { id: 'e', error: { code: 'image_unreadable' } },
      ],
    })
    expect((await tandem.app.inject('/items/b/image')).body).toBe('cat')
  })

  it('POST /embed embeds the fetched bytes', async () => {
    const image = Buffer.from('dog').toString('base64')
    const reply = await post('/embed', {
      inputs: [{ image: `${here}/dog` }, { text: 'dog' }, { image }],
    })
    const { embeddings } = reply.json<{ embeddings: { type: string; embedding: number[] }[] }>()
    expect(embeddings.map(({ type }) => type)).toEqual(['image', 'text', 'image'])
    expect(embeddings[0]?.embedding).toEqual(embeddings[2]?.embedding)
  })

  it('POST /search and POST /rerank accept it', async () => {
    const found = await post('/search', { image: `${here}/dog`, k: 1 })
    expect(found.json()).toMatchObject({ hits: [{ id: 'a' }] })
    const ranked = await post('/rerank', {
      query: 'dog',
      documents: [{ image: `${here}/dog%201` }, { image: `${here}/dog%207` }],
    })
    expect(ranked.json()).toMatchObject({ results: [{ index: 1 }, { index: 0 }] })
  })

  it('an error names the place of the URL in the request', async () => {
    const reply = await post('/embed', { inputs: [{ text: 'a' }, { image: `${here}/page` }] })
    expect(reply.json<Problem>()).toMatchObject({
      status: 415,
      detail: expect.stringMatching(/^inputs\[1\]\.image/) as string,
    })
    const other = await post('/rerank', {
      query: 'a',
      documents: ['a', { image: 'https://169.254.169.254/' }],
    })
    expect(other.json<Problem>()).toMatchObject({
      status: 422,
      code: 'image_url_not_allowed',
      detail: expect.stringMatching(/^documents\[1\]\.image/) as string,
    })
  })

  it('the images of one request may together be as large as a body', async () => {
    const word = 'x'.repeat(900)
    expect(
      (await post('/embed', { inputs: [1, 2].map(() => ({ image: `${here}/${word}` })) }))
        .statusCode,
    ).toBe(200)
    const reply = await post('/embed', {
      inputs: [1, 2, 3].map(() => ({ image: `${here}/${word}` })),
    })
    expect(reply.json()).toMatchObject({ status: 413, code: 'body_too_large' })
  })

  it('a fetch ends when the time of the request is over', async () => {
    expect((await post('/embed', { inputs: [{ image: `${here}/slow` }] })).json()).toMatchObject({
      status: 503,
      code: 'timed_out',
    })
  })

  it('nothing is fetched without allowed hosts or for an invalid request', async () => {
    const closed = await startTestService()
    const before = asked
    const reply = await closed.app.inject({
      method: 'PUT',
      url: '/items/a',
      payload: { image: `${here}/dog` },
    })
    expect(reply.json<Problem>()).toMatchObject({
      status: 422,
      code: 'image_url_not_allowed',
      detail: expect.stringMatching(/fetches none/) as string,
    })
    await closed.end()
    const deep = JSON.parse(`${'['.repeat(200)}${']'.repeat(200)}`) as unknown
    const wrong = await tandem.app.inject({
      method: 'PUT',
      url: '/items/a',
      payload: { image: `${here}/dog`, payload: { deep } },
    })
    expect(wrong.json()).toMatchObject({ code: 'payload_invalid' })
    expect(asked).toBe(before)
  })
})
