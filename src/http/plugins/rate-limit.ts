/** Limits the requests of each client: it has a bucket of tokens that fills at a constant rate. */
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Not counted: probes must not be refused. */
    rateLimit?: false
  }
}

export interface RateLimitOptions {
  /** Tokens that a bucket gains each second; 0 switches the limit off. */
  perSecond: number
  /** Tokens that a bucket holds: the most requests at once. */
  burst: number
}

/** The least recent client is forgotten beyond this number; its next bucket is full. */
const MAX_CLIENTS = 10_000

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
   * Takes a token from the bucket of `client`.
   *
   * @param now - milliseconds of a monotonic clock
   * @returns 0 if there was a token, otherwise the milliseconds until there is one
   */
  take(client: string, now: number): number {
    const bucket = this.#buckets.get(client) ?? { tokens: this.#burst, at: now }
    const gained = ((now - bucket.at) / 1000) * this.#perSecond
    const tokens = Math.min(this.#burst, bucket.tokens + gained)
    this.#buckets.delete(client)
    this.#buckets.set(client, { tokens: tokens >= 1 ? tokens - 1 : tokens, at: now })
    const [oldest] = this.#buckets.keys()
    if (this.#buckets.size > MAX_CLIENTS && oldest !== undefined) this.#buckets.delete(oldest)
    return tokens >= 1 ? 0 : ((1 - tokens) / this.#perSecond) * 1000
  }
}

/** The key, the IPv4 address, or the IPv6 /64 network: one subscriber has all of its addresses. */
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

/** Runs before `auth`, so that guessing keys is limited too. */
export const rateLimit = plugin<RateLimitOptions>(
  (app, options, done) => {
    const { perSecond, burst } = options
    if (perSecond === 0) return done()
    const buckets = new TokenBuckets(options)
    app.addHook('onRequest', (request, _reply, next) => {
      if (request.routeOptions.config.rateLimit === false) return next()
      const waitMs = buckets.take(clientOf(request), performance.now())
      if (waitMs === 0) return next()
      const client = request.key === undefined ? 'address' : 'API key'
      const retryAfterS = Math.ceil(waitMs / 1000)
      next(new TandemError('rate_limited', { client, perSecond, burst }, { retryAfterS }))
    })
    done()
  },
  { name: 'rate-limit', dependencies: ['identity'] },
)
