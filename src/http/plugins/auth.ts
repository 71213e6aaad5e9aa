/**
 * Names the API key that came with a request, and asks for one that may do what the request asks,
 * where there are keys. Routes marked `open` are left out.
 */
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import type { Keys } from '../../auth/keys.js'
import { grants, type Key, type Scope } from '../../auth/key.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Needs no API key and takes no permit: health, the search page, the API documentation. */
    open?: boolean
    /** What a key must allow; without it `read` for GET and `write` for every other method. */
    scope?: Scope
  }
  interface FastifyRequest {
    /** The key that came with the request, where it is one that the service knows. */
    key: Key | undefined
  }
}

/** @param methods - of the route, or of the request where no route took it */
export function scopeNeeded(methods: string | readonly string[], scope?: Scope): Scope {
  const reading = [methods].flat().every((method) => method === 'GET' || method === 'HEAD')
  return scope ?? (reading ? 'read' : 'write')
}

function givenKey({ headers }: FastifyRequest): string | undefined {
  const header = headers['x-api-key']
  if (typeof header === 'string') return header
  return /^Bearer +(.+)$/i.exec(headers.authorization ?? '')?.[1]
}

/** Sets `request.key`; refuses nothing. */
export const identity = plugin<{ keys: Keys }>((app, { keys }, done) => {
  app.decorateRequest('key', undefined)
  app.addHook('onRequest', (request, _reply, next) => {
    const given = givenKey(request)
    request.key = given === undefined ? undefined : keys.find(given)
    next()
  })
  done()
})

/**
 * Refuses requests without a key, or with one that may not do what they ask. Register it behind
 * `identity`.
 */
export const auth = plugin<{ keys: Keys }>((app, { keys }, done) => {
  app.addHook('onRequest', (request, reply, next) => {
    const { open, scope } = request.routeOptions.config
    if (!keys.needed || open === true) return next()
    if (request.key === undefined) {
      const given = givenKey(request)
      const problem = given === undefined ? 'none was given' : 'the one given is unknown'
      reply.header('www-authenticate', 'Bearer')
      return next(new TandemError('unauthorized', { problem }))
    }
    // Any key may learn that there is nothing at an address.
    const needed = request.is404 ? 'read' : scopeNeeded(request.method, scope)
    if (grants(request.key.scopes, needed)) return next()
    reply.header('www-authenticate', `Bearer error="insufficient_scope", scope="${needed}"`)
    const { name, scopes } = request.key
    next(new TandemError('forbidden', { needed, name, scopes: scopes.join(', ') }))
  })
  done()
})
