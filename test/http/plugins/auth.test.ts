import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newKey } from '../../../src/auth/keys.js'
import { startTestService, type TestService } from '../../support/test-service.js'

let tandem: TestService

beforeAll(async () => {
  tandem = await startTestService({ apiKeys: ['first-secret', 'second-secret'] })
})
afterAll(() => tandem.end())

const get = (url: string, headers: Record<string, string> = {}) =>
  tandem.app.inject({ url, headers })

describe('with API keys', () => {
  it.each([
    { authorization: 'Bearer first-secret' },
    { authorization: 'bearer second-secret' },
    { 'x-api-key': 'second-secret' },
  ])('takes %j', async (headers) => {
    expect((await get('/search?q=a', headers)).statusCode).toBe(200)
  })

  it.each([
    {},
    { authorization: 'Bearer ' },
    { authorization: 'Bearer first-secre' },
    { authorization: 'Bearer first-secret2' },
    { authorization: 'Basic first-secret' },
    { 'x-api-key': '' },
    { 'x-api-key': 'first-secret,second-secret' },
  ])('refuses %j, and does not repeat it', async (headers: Record<string, string>) => {
    const reply = await get('/search?q=a', headers)
    expect(reply.statusCode).toBe(401)
    expect(reply.headers['www-authenticate']).toBe('Bearer')
    expect(reply.json()).toMatchObject({ code: 'unauthorized' })
    expect(reply.body).not.toContain('secret')
  })

  it.each(['/health/live', '/health/ready', '/', '/docs/errors', '/openapi.json'])(
    'leaves %s open',
    async (url) => {
      expect((await get(url)).statusCode).toBe(200)
    },
  )

  it.each(['/metrics', '/items', '/items/a', '/items/a/image', '/nothing'])(
    'asks for a key at %s',
    async (url) => {
      expect((await get(url)).statusCode).toBe(401)
    },
  )
})

describe('caches', () => {
  it.each(['/items', '/search?q=a', '/items/a', '/items/none', '/metrics', '/nothing'])(
    'may not keep the answer of %s',
    async (url) => {
      for (const headers of [{ 'x-api-key': 'first-secret' }, {}])
        expect((await get(url, headers)).headers['cache-control']).toBe('no-store')
    },
  )
})

describe('with scopes', () => {
  const made = {
    read: newKey('reader', ['read']),
    write: newKey('writer', ['write']),
    admin: newKey('root', ['admin']),
  }
  let scoped: TestService
  let folder: string
  let apiKeysFile: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tandem-'))
    apiKeysFile = join(folder, 'keys')
    await writeFile(
      apiKeysFile,
      Object.values(made)
        .map(({ line }) => line)
        .join('\n'),
    )
    scoped = await startTestService({ apiKeysFile })
  })
  afterAll(async () => {
    await scoped.end()
    await rm(folder, { recursive: true })
  })

  type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'
  const ask = (method: Method, url: string, scope: keyof typeof made, body?: object) =>
    scoped.app.inject({
      method,
      url,
      headers: { 'x-api-key': made[scope].key },
      ...(body ? { payload: body } : {}),
    })

  const reading = [
    ['GET', '/search?q=a', undefined],
    ['POST', '/search', { text: 'a' }],
    ['POST', '/embed', { inputs: [{ text: 'a' }] }],
    ['POST', '/rerank', { query: 'a', documents: ['b'] }],
    ['GET', '/items', undefined],
    ['GET', '/metrics', undefined],
  ] as const
  const image = Buffer.from('dog').toString('base64')

  it.each(reading)('%s %s needs read', async (method, url, body) => {
    for (const scope of ['read', 'write', 'admin'] as const) {
      expect((await ask(method, url, scope, body)).statusCode, scope).toBe(200)
    }
  })

  it('adding and removing need write', async () => {
    for (const [method, url, body] of [
      ['PUT', '/items/a', { image }],
      ['DELETE', '/items/a', undefined],
      ['POST', '/items', {}],
    ] as const) {
      const refused = await ask(method, url, 'read', body)
      expect(refused.json(), `${method} ${url}`).toMatchObject({ status: 403, code: 'forbidden' })
      expect(refused.json<{ detail: string }>().detail).toBe(
        'This needs an API key with the scope write; the key "reader" has read.',
      )
      expect(refused.headers['www-authenticate']).toBe(
        'Bearer error="insufficient_scope", scope="write"',
      )
    }
    expect((await ask('GET', '/items/a', 'read')).statusCode).toBe(404)
    expect((await ask('PUT', '/items/a', 'write', { image })).statusCode).toBe(201)
    expect((await ask('DELETE', '/items/a', 'admin')).statusCode).toBe(204)
  })

  it('an unknown route is 404 for every key and method', async () => {
    expect((await ask('POST', '/nothing', 'read')).statusCode).toBe(404)
    expect((await ask('DELETE', '/items', 'read')).statusCode).toBe(405)
  })

  it('a key that was removed from the file is refused after a reload', async () => {
    const [before, next] = [
      Object.values(made)
        .map(({ line }) => line)
        .join('\n'),
      newKey('next', ['read']),
    ]
    await writeFile(apiKeysFile, next.line)
    await scoped.reload()
    expect((await ask('GET', '/items', 'admin')).statusCode).toBe(401)
    expect(
      (await scoped.app.inject({ url: '/items', headers: { 'x-api-key': next.key } })).statusCode,
    ).toBe(200)
    await writeFile(apiKeysFile, before)
    await scoped.reload()
    expect((await ask('GET', '/items', 'admin')).statusCode).toBe(200)
  })

  it('the OpenAPI document names the scope of each operation', async () => {
    interface Document {
      components: { securitySchemes: Record<string, object> }
      paths: Record<string, Record<string, { security: Record<string, string[]>[] }>>
    }
    const { components, paths } = (await scoped.app.inject('/openapi.json')).json<Document>()
    expect(Object.keys(components.securitySchemes)).toEqual(['bearer', 'header'])
    const securityOf = (path: string, method: string) => paths[path]?.[method]?.security
    expect(securityOf('/items/{id}', 'put')).toEqual([{ bearer: ['write'] }, { header: ['write'] }])
    expect(securityOf('/search', 'post')).toEqual([{ bearer: ['read'] }, { header: ['read'] }])
    expect(securityOf('/health/ready', 'get')).toEqual([])
  })
})
