import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { wordTandem, type WordTandem } from '../word-rooms.js'

let tandem: WordTandem

beforeAll(async () => {
  tandem = await wordTandem({ apiKeys: ['first-secret', 'second-secret'] })
})
afterAll(() => tandem.end())

const get = (url: string, headers: Record<string, string> = {}) => tandem.app.inject({ url, headers })

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

  it.each(['/health/live', '/health/ready', '/', '/docs/errors', '/openapi.json'])('leaves %s open', async (url) => {
    expect((await get(url)).statusCode).toBe(200)
  })

  it.each(['/metrics', '/items', '/items/a', '/items/a/image', '/nothing'])('asks for a key at %s', async (url) => {
    expect((await get(url)).statusCode).toBe(401)
  })
})
