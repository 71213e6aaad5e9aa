/** Asks for one of the keys in API_KEYS, where there are any. Routes marked `open` are left out. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../errors.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Needs no API key and takes no permit: health, the search page, the API documentation. */
    open?: boolean
  }
}

// Digests have one length whatever the key, which the constant-time comparison needs.
function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}

function givenKey({ headers }: FastifyRequest): string | undefined {
  const header = headers['x-api-key']
  if (typeof header === 'string') return header
  return /^Bearer +(.+)$/i.exec(headers.authorization ?? '')?.[1]
}

export const auth = plugin<{ keys: readonly string[] }>((app, { keys }, done) => {
  const digests = keys.map(digest)
  if (digests.length > 0) {
    app.addHook('onRequest', (request, _reply, next) => {
      if (request.routeOptions.config.open === true) return next()
      const key = givenKey(request)
      const wanted = digest(key ?? '')
      // Every key is compared, so that the time taken does not say which came close.
      const matching = digests.filter((one) => timingSafeEqual(one, wanted))
      if (key !== undefined && matching.length > 0) return next()
      const given = key === undefined ? 'no API key was given' : 'the API key given is not one of them'
      next(
        new TandemError(
          'unauthorized',
          `This service asks for an API key (Authorization: Bearer … or X-API-Key: …), and ${given}.`,
        ),
      )
    })
  }
  done()
})
