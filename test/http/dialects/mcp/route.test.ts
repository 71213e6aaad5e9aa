import { once } from 'node:events'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startTestService, type TestService } from '../../../support/test-service.js'

const KEY = 'first-secret'
let tandem: TestService
let address: string
const clients: Client[] = []

beforeAll(async () => {
  tandem = await startTestService({ apiKeys: [KEY] })
  const add = (id: string, image: string, payload: Record<string, unknown> | null) =>
    tandem.retrieval.add({ id, image: Buffer.from(image), payload })
  await add('dog', 'dog 3', { title: 'A dog', year: 2023 })
  await add('puppy/1', 'dog puppy 5', { year: 2024, path: 'a/puppy.jpg' })
  await add('cat', 'cat 1', null)
  address = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
})
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()))
})
afterAll(async () => {
  // fetch keeps a connection that it has opened and not used.
  tandem.app.server.closeAllConnections()
  await tandem.end()
})

async function connected(mode: 'legacy' | 'auto' = 'legacy', key = KEY): Promise<Client> {
  const client = new Client({ name: 'test', version: '1' }, { versionNegotiation: { mode } })
  const headers = { authorization: `Bearer ${key}` }
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`${address}/mcp`), { requestInit: { headers } }),
  )
  clients.push(client)
  return client
}

const call = async (name: string, args: object, mode?: 'auto') =>
  (await connected(mode)).callTool({ name, arguments: { ...args } })

const HEADERS = {
  authorization: `Bearer ${KEY}`,
  accept: 'application/json, text/event-stream',
  'content-type': 'application/json',
}

const post = (message: unknown, headers: Record<string, string> = {}) =>
  tandem.app.inject({
    method: 'POST',
    url: '/mcp',
    headers: { ...HEADERS, ...headers },
    payload: JSON.stringify(message),
  })

describe.each([
  ['2025', 'legacy'],
  ['2026', 'auto'],
] as const)('POST /mcp with the client of the SDK and the protocol of %s', (year, mode) => {
  it('lists four tools that only read, with the schemas of their answers', async () => {
    const client = await connected(mode)
    expect(client.getNegotiatedProtocolVersion()).toMatch(year)
    expect(client.getServerVersion()).toMatchObject({ name: 'tandem' })
    const { tools } = await client.listTools()
    expect(tools.map(({ name }) => name)).toEqual([
      'search_images',
      'view_image',
      'search',
      'fetch',
    ])
    for (const { annotations, outputSchema, inputSchema } of tools) {
      expect(annotations).toMatchObject({ readOnlyHint: true, destructiveHint: false })
      expect(outputSchema).toMatchObject({ type: 'object' })
      expect(JSON.stringify(inputSchema)).not.toContain('"pattern"')
    }
  })

  it('finds images by a sentence and names the filter that was applied', async () => {
    const filter = { must: [{ key: 'year', range: { gte: 2024 } }] }
    const client = await connected(mode)
    const { structuredContent, content, isError } = await client.callTool({
      name: 'search_images',
      arguments: { text: 'dog', k: 2, filter },
    })
    expect(isError).not.toBe(true)
    expect(structuredContent).toMatchObject({
      applied: { text: 'dog', k: 2, filter },
      hits: [
        {
          id: 'puppy/1',
          title: 'a/puppy.jpg',
          payload: { year: 2024 },
          url: `${address}/items/puppy%2F1/image`,
        },
      ],
    })
    expect(JSON.parse((content[0] as { text: string }).text)).toEqual(structuredContent)
  })

  it('shows an image as a block that assistants can see', async () => {
    const { content, structuredContent } = await (
      await connected(mode)
    ).callTool({ name: 'view_image', arguments: { id: 'puppy/1' } })
    const stored = await tandem.retrieval.image('puppy/1')
    expect(content[0]).toEqual({
      type: 'image',
      data: Buffer.from(stored).toString('base64'),
      mimeType: 'image/jpeg',
    })
    expect(structuredContent).toMatchObject({ id: 'puppy/1', payload: { year: 2024 } })
  })

  it('answers an unknown id as an error of the tool, which the assistant can read', async () => {
    const answer = await (
      await connected(mode)
    ).callTool({ name: 'fetch', arguments: { id: 'nothing' } })
    expect(answer).toMatchObject({
      isError: true,
      content: [{ type: 'text', text: 'There is no item with the id "nothing". (item_not_found)' }],
    })
  })

  it('refuses a wrong key', async () => {
    await expect(connected(mode, 'another-secret')).rejects.toThrow(/unauthorized|401/i)
  })
})

describe('the tools', () => {
  it('find the same hits in the same order as POST /search', async () => {
    const options = { k: 3, rerank: false }
    for (const query of [{ text: 'dog puppy' }, { id: 'dog' }, { image: 'ZG9nIHB1cHB5' }]) {
      const { structuredContent } = await call('search_images', { ...query, ...options })
      const reply = await tandem.app.inject({
        method: 'POST',
        url: '/search',
        headers: HEADERS,
        payload: { ...query, ...options },
      })
      const { hits } = reply.json<{ hits: object[] }>()
      expect(structuredContent).toMatchObject({ hits })
    }
  })

  it('search and fetch answer in the form that research assistants expect', async () => {
    const { structuredContent } = await call('search', { query: 'a dog' })
    const url = `${address}/items/dog/image`
    const { results } = structuredContent as { results: object[] }
    expect(results).toContainEqual({ id: 'dog', title: 'A dog', url })
    expect((await call('fetch', { id: 'dog' })).structuredContent).toEqual({
      id: 'dog',
      title: 'A dog',
      text: expect.stringMatching(
        /^An image of \d+ × \d+ pixels.\ntitle: A dog\nyear: 2023$/,
      ) as string,
      url,
      metadata: { title: 'A dog', year: 2023 },
    })
    expect((await call('fetch', { id: 'cat' })).structuredContent).toMatchObject({
      title: 'cat',
      metadata: null,
    })
  })

  it.each([
    ['search_images', {}, 'exactly one of text, image, id'],
    ['search_images', { text: 'dog', id: 'cat' }, 'text and id'],
    ['search_images', { text: ' ' }, 'text is " "; expected a text with'],
    ['search_images', { text: 'dog', k: 51 }, 'from 1 to 50'],
    ['search_images', { text: 'dog', colour: 'red' }, '"colour" is not a known field'],
    ['search_images', { text: 'dog', filter: { must: [{ key: 'year' }] } }, 'filter.must[0]'],
    ['search_images', { image: '~' }, 'not valid base64'],
    ['search_images', { image: 'http://169.254.169.254/' }, 'image_url_not_allowed'],
    ['search_images', { text: 'x'.repeat(10_001) }, 'text_too_long'],
    ['search', { query: '' }, 'query is ""'],
    ['fetch', { id: 'x'.repeat(257) }, '1 to 256 characters'],
    ['view_image', { id: '..' }, 'other than "." and ".."'],
    ['view_image', { id: 7 }, 'id is 7'],
  ])('%s refuses %j in a sentence', async (name, args, sentence) => {
    const { isError, content } = await call(name, args)
    expect(isError).toBe(true)
    expect((content[0] as { text: string }).text).toContain(sentence)
  })

  it('hide what went wrong inside the service', async () => {
    tandem.models.gate = () => Promise.reject(new Error('secret of the machine'))
    try {
      const { isError, content } = await call('search', { query: 'dog' })
      expect(isError).toBe(true)
      expect(JSON.stringify(content)).toContain('internal_error')
      expect(JSON.stringify(content)).not.toContain('secret')
    } finally {
      tandem.models.gate = () => Promise.resolve()
    }
  })
})

describe('POST /mcp', () => {
  it('names parameters that the protocol does not allow, not as an inner error', async () => {
    const reply = await post({
      jsonrpc: '2.0',
      id: 1,
      method: 'initialize',
      params: { protocolVersion: '2025-06-18' },
    })
    const { error } = reply.json<{ error: { code: number; message: string } }>()
    expect(error.code).toBe(-32602)
    expect(error.message).toMatch(/^params\.capabilities: .*; params\.clientInfo: /)
  })

  const initialize = {
    jsonrpc: '2.0',
    id: 0,
    method: 'initialize',
    params: {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'assistant', version: '1' },
    },
  }
  const list = { jsonrpc: '2.0', id: 1, method: 'tools/list' }

  it('answers the recorded client: JSON for a request, 202 for a notification, 405 for GET', async () => {
    const first = await post(initialize)
    expect(first.statusCode).toBe(200)
    expect(first.headers['content-type']).toContain('application/json')
    expect(first.headers['mcp-session-id']).toBeUndefined()
    expect(first.json()).toMatchObject({ id: 0, result: { protocolVersion: '2025-11-25' } })
    const version = { 'mcp-protocol-version': '2025-11-25' }
    const noted = await post({ jsonrpc: '2.0', method: 'notifications/initialized' }, version)
    expect([noted.statusCode, noted.body]).toEqual([202, ''])
    const stream = await tandem.app.inject({
      url: '/mcp',
      headers: { ...HEADERS, accept: 'text/event-stream' },
    })
    expect([stream.statusCode, stream.headers.allow]).toEqual([405, 'POST'])
    // Each request stands for itself: no session is needed for it.
    expect((await post(list, version)).json()).toMatchObject({ id: 1, result: { tools: {} } })
  })

  it('offers a version that it speaks to a client that names another', async () => {
    const params = { ...initialize.params, protocolVersion: '1999-01-01' }
    expect((await post({ ...initialize, params })).json()).toMatchObject({
      result: { protocolVersion: '2025-11-25' },
    })
    const refused = await post(list, { 'mcp-protocol-version': '1999-01-01' })
    expect(refused.statusCode).toBe(400)
    expect(refused.body).toContain('2025-11-25')
  })

  it.each([
    ['a list of messages', [list, list], 422],
    ['null', null, 400],
    ['a text', 'tools/list', 400],
    ['no method', { jsonrpc: '2.0', id: 1 }, 400],
    ['another version of JSON-RPC', { ...list, jsonrpc: '1.0' }, 400],
    ['an id that is an object', { ...list, id: {} }, 400],
    ['an id of a megabyte', { ...list, id: 'x'.repeat(2 ** 20), method: 'none' }, 200],
    ['an unknown method', { ...list, method: 'resources/list' }, 200],
    [
      'a tool called __proto__',
      { ...list, method: 'tools/call', params: { name: '__proto__' } },
      200,
    ],
    [
      'a tool called constructor',
      { ...list, method: 'tools/call', params: { name: 'constructor' } },
      200,
    ],
    [
      'arguments that are a list',
      { ...list, method: 'tools/call', params: { name: 'search', arguments: [] } },
      200,
    ],
    ['a stream of changes', { ...list, method: 'subscriptions/listen', params: {} }, 200],
  ])('answers %s without a fault of its own', async (_what, message, status) => {
    const reply = await post(message)
    expect(reply.statusCode).toBe(status)
    expect(reply.body).toMatch(/"error"|"code"/)
    expect(reply.body).not.toContain('at ')
  })

  it('refuses a page of another site, and a name that is made to resolve here', async () => {
    const other = { origin: 'http://evil.example', 'sec-fetch-site': 'cross-site' }
    expect((await post(list, other)).json()).toMatchObject({ code: 'origin_not_allowed' })
    expect((await post(list, { host: 'evil.example' })).json()).toMatchObject({
      code: 'host_not_allowed',
    })
  })

  it('stops working for a client that is gone', async () => {
    let signal: AbortSignal | undefined
    let release = (): void => undefined
    const reached = new Promise<void>((resolve) => {
      tandem.models.gate = (given) => {
        signal = given
        resolve()
        return new Promise((done) => (release = done))
      }
    })
    const controller = new AbortController()
    const params = { name: 'search', arguments: { query: 'dog' } }
    const body = JSON.stringify({ ...list, method: 'tools/call', params })
    const asked = fetch(`${address}/mcp`, {
      method: 'POST',
      headers: HEADERS,
      body,
      signal: controller.signal,
    }).catch(() => undefined)
    await reached
    controller.abort()
    await asked
    if (signal?.aborted === false) await once(signal, 'abort')
    tandem.models.gate = () => Promise.resolve()
    release()
    expect(signal?.aborted).toBe(true)
  })

  it('is answered within the time limit, and counted once', async () => {
    tandem.models.gate = (signal) =>
      new Promise((_, reject) =>
        signal?.addEventListener('abort', () => reject(signal.reason as Error)),
      )
    try {
      const params = { name: 'search', arguments: { query: 'dog' } }
      const reply = await post(
        { ...list, method: 'tools/call', params },
        { 'request-timeout': '0.05' },
      )
      expect(reply.statusCode).toBe(503)
      expect(reply.json()).toMatchObject({ code: 'timed_out' })
    } finally {
      tandem.models.gate = () => Promise.resolve()
    }
  })
})

describe('DIALECTS=none', () => {
  it('has no /mcp', async () => {
    const without = await startTestService({ dialects: [] })
    const reply = await without.app.inject({ method: 'POST', url: '/mcp', payload: {} })
    expect(reply.json()).toMatchObject({ code: 'route_not_found' })
    await without.end()
  })
})
