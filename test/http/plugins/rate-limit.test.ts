import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Key } from '../../../src/auth/key.js'
import { clientOf, TokenBuckets } from '../../../src/http/plugins/rate-limit.js'
import { startTestService, type TestService } from '../../support/test-service.js'

describe('a bucket of tokens', () => {
  it('allows its burst at once, then the rate', () => {
    const buckets = new TokenBuckets({ perSecond: 2, burst: 3 })
    expect([1, 2, 3].map(() => buckets.take('a', 0))).toEqual([0, 0, 0])
    expect(buckets.take('a', 0)).toBe(500)
    expect(buckets.take('a', 499)).toBeCloseTo(1)
    expect(buckets.take('a', 500)).toBe(0)
    expect(buckets.take('a', 500)).toBe(500)
  })

  it('holds at most its burst after any pause', () => {
    const buckets = new TokenBuckets({ perSecond: 100, burst: 2 })
    expect(buckets.take('a', 0)).toBe(0)
    const later = [1, 2, 3].map(() => buckets.take('a', 3_600_000))
    expect(later).toEqual([0, 0, 10])
  })

  it('belongs to one client, and the least recent one is forgotten', () => {
    const buckets = new TokenBuckets({ perSecond: 1, burst: 1 })
    expect([buckets.take('a', 0), buckets.take('b', 0)]).toEqual([0, 0])
    for (let at = 0; at < 20_000; at += 1) {
      buckets.take(`client ${at}`, 0)
      expect(buckets.take('a', 0)).toBeGreaterThan(0)
    }
    expect(buckets.size).toBe(10_000)
    expect(buckets.take('b', 0)).toBe(0)
  })
})

describe('the client of a request', () => {
  const key = { name: 'phone' } as Key
  it.each([
    [{ key, ip: '10.0.0.1' }, 'key phone'],
    [{ key: undefined, ip: '10.0.0.1' }, 'address 10.0.0.1'],
    [{ key: undefined, ip: '::ffff:10.0.0.1' }, 'address ::ffff:10.0.0.1'],
    [{ key: undefined, ip: '2001:db8:1:2:aaaa:bbbb:cccc:dddd' }, 'network 2001:db8:1:2'],
    [{ key: undefined, ip: '2001:db8:1:2::9' }, 'network 2001:db8:1:2'],
    [{ key: undefined, ip: '2001:db8::9' }, 'network 2001:db8:0:0'],
    [{ key: undefined, ip: '::1' }, 'network 0:0:0:0'],
  ])('%j is %s', (request, name) => {
    expect(clientOf(request)).toBe(name)
  })
})

describe('the rate limit', () => {
  let tandem: TestService
  beforeAll(async () => {
    // On a busy machine a few tokens may come back while the test runs, hence the bounds below.
    tandem = await startTestService({
      apiKeys: ['first-secret', 'second-secret'],
      rateLimitPerSecond: 1,
      limits: { rateLimitBurst: 3 },
    })
  })
  afterAll(() => tandem.end())

  const status = async (key: string, url = '/items', remoteAddress = '10.0.0.1'): Promise<number> =>
    (await tandem.app.inject({ url, remoteAddress, headers: { 'x-api-key': key } })).statusCode

  it('refuses a key beyond it from any address, and no other key', async () => {
    const burst = await Promise.all(
      Array.from({ length: 12 }, (_, at) => status('first-secret', '/items', `10.0.1.${at}`)),
    )
    expect(burst.filter((one) => one === 200).length).toBeGreaterThanOrEqual(3)
    expect(burst.filter((one) => one === 429).length).toBeGreaterThanOrEqual(6)
    expect(await status('second-secret')).toBe(200)
  })

  it('answers with Retry-After', async () => {
    const replies = await Promise.all(
      Array.from({ length: 9 }, () =>
        tandem.app.inject({ url: '/items', headers: { 'x-api-key': 'first-secret' } }),
      ),
    )
    const refused = replies.find(({ statusCode }) => statusCode === 429)
    expect(refused?.json()).toMatchObject({ code: 'rate_limited' })
    expect(refused?.json<{ detail: string }>().detail).toContain('this API key')
    expect(Number(refused?.headers['retry-after'])).toBe(1)
  })

  it('refuses an address that guesses keys, and no other address', async () => {
    const tried = await Promise.all(
      Array.from({ length: 12 }, (_, at) => status(`guess-${at}`, '/items', '10.9.9.9')),
    )
    expect(tried.filter((one) => one === 401).length).toBeGreaterThanOrEqual(3)
    expect(tried.filter((one) => one === 429).length).toBeGreaterThanOrEqual(6)
    expect(await status('guess', '/items', '10.9.9.10')).toBe(401)
  })

  it('counts documents and pages, which need no key', async () => {
    for (const [at, url] of ['/', '/docs', '/openapi.json', '/docs/errors'].entries()) {
      const all = await Promise.all(
        Array.from({ length: 12 }, () => status('none', url, `10.0.2.${at}`)),
      )
      expect(all.filter((code) => code === 200).length, url).toBeGreaterThanOrEqual(3)
      expect(all.filter((code) => code === 429).length, url).toBeGreaterThanOrEqual(6)
    }
  })

  it('does not count probes of health', async () => {
    for (const url of ['/health/live', '/health/ready']) {
      const all = await Promise.all(Array.from({ length: 20 }, () => status('none', url)))
      expect(new Set(all)).toEqual(new Set([200]))
    }
  })
})
