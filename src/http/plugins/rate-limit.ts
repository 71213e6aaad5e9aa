/**
 * Limits how many requests a client may send: each has a bucket of tokens that fills steadily, and
 * a request takes one.
 */
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'

export interface RateLimitOptions {
  /** Tokens that a bucket gains each second; 0 switches the limit off. */
  perSecond: number
  /** Tokens that a bucket holds: so many requests may come at once. */
  burst: number
}

/** Clients remembered at a time; forgetting one gives it a full bucket again. */
const MOST_CLIENTS = 10_000

export class TokenBuckets {
  readonly #perSecond: number
  readonly #burst: number
  /** In the order of their last use. */
  readonly #buckets = new Map<string, { tokens: number; at: number }>()

  constructor({ perSecond, burst }: RateLimitOptions) {
    this.#perSecond = perSecond
    this.#burst = burst
  }

  get size(): number {
    return this.#buckets.size
  }

  /**
   * Takes a token out of the bucket of `client`.
   *
   * @param now - milliseconds of a clock that never goes back
   * @returns 0 when there was one, otherwise the milliseconds until there is
   */
  take(client: string, now: number): number {
    const known = this.#buckets.get(client) ?? { tokens: this.#burst, at: now }
    const tokens = Math.min(this.#burst, known.tokens + ((now - known.at) / 1000) * this.#perSecond)
    const left = tokens >= 1 ? tokens - 1 : tokens
    this.#buckets.delete(client)
    this.#buckets.set(client, { tokens: left, at: now })
    const [oldest] = this.#buckets.keys()
    if (this.#buckets.size > MOST_CLIENTS && oldest !== undefined) this.#buckets.delete(oldest)
    return tokens >= 1 ? 0 : ((1 - tokens) / this.#perSecond) * 1000
  }
}

/**
 * Whose bucket it is: the key's, or the address's; whoever has one IPv6 address has the 2^64 beside
 * it.
 */
export function clientOf({ key, ip }: Pick<FastifyRequest, 'key' | 'ip'>): string {
  if (key !== undefined) return `key ${key.name}`
  if (!ip.includes(':') || ip.includes('.')) return `address ${ip}`
  const [before = '', after = ''] = ip.split('::')
  const [head, tail] = [before, after].map((part) => (part === '' ? [] : part.split(':'))) as [
    string[],
    string[],
  ]
  const zeros = Array<string>(Math.max(0, 8 - head.length - tail.length)).fill('0')
  return `network ${[...head, ...zeros, ...tail].slice(0, 4).join(':')}`
}

/**
 * Register it behind what names the key and before what refuses a wrong one: trying keys is limited
 * too.
 */
export const rateLimit = plugin<RateLimitOptions>((app, options, done) => {
  const { perSecond, burst } = options
  const buckets = new TokenBuckets(options)
  if (perSecond > 0) {
    app.addHook('onRequest', (request, _reply, next) => {
      if (request.routeOptions.config.open === true) return next()
      const waitMs = buckets.take(clientOf(request), performance.now())
      if (waitMs === 0) return next()
      const client = request.key === undefined ? 'address' : 'API key'
      next(
        new TandemError(
          'rate_limited',
          { client, perSecond, burst },
          { retryAfterS: Math.ceil(waitMs / 1000) },
        ),
      )
    })
  }
  done()
})
