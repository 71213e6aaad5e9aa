/**
 * Refuses requests that a page of another site makes a browser send. A browser reaches addresses
 * that other machines cannot, such as loopback. So a page could post forms to the service
 * (cross-site request forgery), or make its own name resolve to it and read the answers (DNS
 * rebinding).
 */
import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import { isLoopback } from '../exposure.js'

export interface HostCheckOptions {
  /** The address that the service listens on; on loopback only loopback names are allowed. */
  host: string
  /** More names of the service, without a port, in lower case. */
  allowedHosts: readonly string[]
  /** Origins whose pages may call the service. */
  allowedOrigins: readonly string[]
}

/** A Host header: a name, or an IPv6 address in brackets, and a port. */
const HOST = /^(\[[0-9a-f:.]+\]|[^\s:@/\\[\]]+)(:\d{1,5})?$/i

export const hostCheck = plugin<HostCheckOptions>(
  (app, { host, allowedHosts, allowedOrigins }, done) => {
    const local = isLoopback(host)
    app.addHook('onRequest', (request, _reply, next) => {
      next(hostRefusal(request) ?? originRefusal(request))
    })

    function hostRefusal({ headers }: FastifyRequest): TandemError | undefined {
      // Browsers always send it.
      if (headers.host === undefined || (!local && allowedHosts.length === 0)) return
      const name = HOST.exec(headers.host)?.[1]?.toLowerCase().replace(/\.$/, '') ?? ''
      if (isLoopback(name) || allowedHosts.includes(name)) return
      // A name can be made to resolve to this service, an address cannot. Probes use addresses.
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
      if (origin !== undefined && allowedOrigins.includes(origin)) return
      if (site !== undefined) {
        // "none": the user typed the URL or opened a bookmark.
        if (site === 'same-origin' || site === 'none') return
        // Any page may link to the search page.
        const link =
          mode === 'navigate' &&
          request.method === 'GET' &&
          request.routeOptions.config.open === true
        return link
          ? undefined
          : new TandemError('origin_not_allowed', { origin: 'a page of another site' })
      }
      // Browsers send Sec-Fetch-Site to https and loopback only, Origin with all methods but GET.
      if (origin === undefined || (URL.canParse(origin) && isOwn(new URL(origin), own))) return
      return new TandemError('origin_not_allowed', { origin: `a page of ${shown(origin)}` })
    }

    /** Behind a proxy that rewrites Host, the origin has one of the allowed names. */
    function isOwn(origin: URL, own: string): boolean {
      return origin.host === own.toLowerCase() || allowedHosts.includes(origin.hostname)
    }
    done()
  },
  { name: 'host-check', dependencies: ['problems'] },
)

function shown(header: string): string {
  return JSON.stringify(header.slice(0, 100))
}
