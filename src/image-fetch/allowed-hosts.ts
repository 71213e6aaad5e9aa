/** Checks the URL of a client or of a redirect against the list of hosts. */
import { isIP } from 'node:net'
import { TandemError } from '../errors.js'

const MAX_URL_CHARS = 4096

/** Which hosts may be fetched, and at which addresses. */
export interface HostRules {
  /** Whether the host of a URL is listed; it has the port unless that is the scheme's. */
  isListed: (host: string) => boolean
  /** Addresses that a connection to this host may use. */
  addressCheck: (host: string) => (address: string) => boolean
}

/**
 * Returns the URL if it may be fetched. A literal address is never resolved, so it is checked here;
 * the URL parser has already normalised decimal, octal and hexadecimal forms.
 *
 * @param from - the redirecting URL; relative locations resolve against it
 * @throws TandemError image_url_not_allowed, which names only the host: the rest may be secret
 */
export function checkedUrl(address: string, name: string, rules: HostRules, from?: URL): URL {
  const refused = (why: string): TandemError =>
    new TandemError('image_url_not_allowed', `${name} ${why}.`)
  if (address.length > MAX_URL_CHARS || !URL.canParse(address, from?.href))
    throw refused('is not a URL that can be read')
  const url = new URL(address, from?.href)
  const verb = from === undefined ? 'is' : `redirects from ${from.host} to`
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw refused(`${verb} an address of ${url.protocol.slice(0, 20)}; expected http: or https:`)
  }
  if (url.username !== '' || url.password !== '')
    throw refused(`${verb} a URL with a user name or a password`)
  const { host, hostname } = url
  const shown = host.slice(0, 260)
  // `host` omits the default port of the scheme, as do entries without a port.
  if (!rules.isListed(host)) {
    throw refused(`${verb} a URL of ${shown}, which is not among the allowed hosts of this service`)
  }
  const literal = hostname.replace(/^\[(.*)\]$/, '$1')
  if (isIP(literal) !== 0 && !rules.addressCheck(host)(literal)) {
    throw refused(`${verb} a URL of ${shown}, which is not a public address`)
  }
  return url
}
