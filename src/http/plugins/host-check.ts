/**
 * Refuses what pages of others make a browser send. A browser reaches addresses that a stranger
 * cannot, such as the loopback one, so a page anywhere could post forms to the service (cross-site
 * request forgery) or make its own name point at the service and read the answers (DNS rebinding).
 */
import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import { isLoopback } from '../exposure.js'

export interface StrangersOptions {
  /** Where the service listens: on the loopback address only loopback names are its own. */
  host: string
  /** Names by which it is known besides, without a port, in lower case. */
  allowedHosts: readonly string[]
}

/** A Host header: a name, or an IPv6 address in brackets, and a port. */
const HOST = /^(\[[0-9a-f:.]+\]|[^\s:@/\\[\]]+)(:\d{1,5})?$/i

export const strangers = plugin<StrangersOptions>((app, { host, allowedHosts }, done) => {
  const local = isLoopback(host)
  app.addHook('onRequest', (request, _reply, next) => {
    next(hostRefusal(request) ?? originRefusal(request))
  })

  function hostRefusal({ headers }: FastifyRequest): TandemError | undefined {
    // Only a client that is no browser leaves it out.
    if (headers.host === undefined || (!local && allowedHosts.length === 0)) return
    const name = HOST.exec(headers.host)?.[1]?.toLowerCase().replace(/\.$/, '') ?? ''
    if (isLoopback(name) || allowedHosts.includes(name)) return
    // A name can be made to point here, an address cannot: probes of an orchestrator come by
    // address.
    if (!local && isIP(name.replace(/^\[(.*)\]$/, '$1')) !== 0) return
    return new TandemError('host_not_allowed', { host: shown(headers.host) })
  }

  function originRefusal(request: FastifyRequest): TandemError | undefined {
    const {
      'sec-fetch-site': site,
      'sec-fetch-mode': mode,
      origin,
      host: own = '',
    } = request.headers
    if (site !== undefined) {
      // "none" is the user: an address typed, a bookmark.
      if (site === 'same-origin' || site === 'none') return
      // A link from anywhere may lead to the search page.
      const link =
        mode === 'navigate' && request.method === 'GET' && request.routeOptions.config.open === true
      return link
        ? undefined
        : new TandemError('origin_not_allowed', { origin: 'a page of another site' })
    }
    // Browsers send the other header to https and loopback addresses alone; an origin comes with
    // every other method.
    if (origin === undefined || (URL.canParse(origin) && isOwn(new URL(origin), own))) return
    return new TandemError('origin_not_allowed', { origin: `a page of ${shown(origin)}` })
  }

  /** Behind a proxy that rewrites Host, the origin is one of the names that were listed. */
  function isOwn(origin: URL, own: string): boolean {
    return origin.host === own.toLowerCase() || allowedHosts.includes(origin.hostname)
  }
  done()
})

function shown(header: string): string {
  return JSON.stringify(header.slice(0, 100))
}
