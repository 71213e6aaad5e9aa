/**
 * Finds the API key of a request, and refuses requests whose key lacks the scope of the route.
 * Routes marked `open` need no key.
 */
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import type { Keys } from '../../auth/keys.js'
import { grants, type Key, type Scope } from '../../auth/key.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Needs no API key and takes no permit: health, pages, the API documentation. */
    open?: boolean
    /** The scope that a key needs; by default `read` for GET and `write` for other methods. */
    scope?: Scope
  }
  interface FastifyRequest {
    /** The API key of the request, if it is a known one. */
    key: Key | undefined
  }
}

/** @param methods - of the route, or of a request without a route */
export function scopeNeeded(methods: string | readonly string[], scope?: Scope): Scope {
  const reading = [methods].flat().every((method) => method === 'GET' || method === 'HEAD')
  return scope ?? (reading ? 'read' : 'write')
}

function keyIn({ headers }: FastifyRequest): string | undefined {
  const header = headers['x-api-key']
  if (typeof header === 'string') return header
  return /^Bearer +(.+)$/i.exec(headers.authorization ?? '')?.[1]
}

/** Sets `request.key`, and keeps caches from giving an answer to clients without it. */
export const identity = plugin<{ keys: Keys }>(
  (app, { keys }, done) => {
    app.decorateRequest('key', undefined)
    app.addHook('onRequest', (request, reply, next) => {
      if (request.routeOptions.config.open !== true) reply.header('cache-control', 'no-store')
      const secret = keyIn(request)
      request.key = secret === undefined ? undefined : keys.find(secret)
      next()
    })
    done()
  },
  { name: 'identity' },
)

/** Refuses requests without a key that has the scope of the route. */
export const auth = plugin<{ keys: Keys }>(
  (app, { keys }, done) => {
    app.addHook('onRequest', (request, reply, next) => {
      const { open, scope } = request.routeOptions.config
      if (!keys.needed || open === true) return next()
      if (request.key === undefined) {
        const problem = keyIn(request) === undefined ? 'none was given' : 'the one given is unknown'
        reply.header('www-authenticate', 'Bearer')
        return next(new TandemError('unauthorized', { problem }))
      }
      // Any key may learn that a route does not exist.
      const needed = request.is404 ? 'read' : scopeNeeded(request.method, scope)
      if (grants(request.key.scopes, needed)) return next()
      reply.header('www-authenticate', `Bearer error="insufficient_scope", scope="${needed}"`)
      const { name, scopes } = request.key
      next(new TandemError('forbidden', { needed, name, scopes: scopes.join(', ') }))
    })
    done()
  },
  { name: 'auth', dependencies: ['identity', 'rate-limit'] },
)
