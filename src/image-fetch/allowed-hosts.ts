/**
 * The list of hosts that may be asked, held against the address that a client or a redirect names.
 */
import { isIP } from 'node:net'
import { TandemError } from '../errors.js'

const LONGEST_URL = 4096

/**
 * The URL, once it may be asked. A host in numbers is never resolved, so its address is checked
 * here; the URL parser has turned decimal, octal and hexadecimal spellings into the usual one by
 * then.
 *
 * @param from - where a redirect came from, for what it leaves out
 * @throws TandemError image_url_not_allowed; the sentence names the host alone: the rest may hold a
 *   secret
 */
export function checkedUrl(
  given: string,
  name: string,
  allowedHosts: readonly string[],
  isAllowedAddress: (address: string) => boolean,
  from?: URL,
): URL {
  const refused = (why: string): TandemError =>
    new TandemError('image_url_not_allowed', `${name} ${why}.`)
  if (given.length > LONGEST_URL || !URL.canParse(given, from?.href))
    throw refused('is not a URL that can be read')
  const url = new URL(given, from?.href)
  const whither = from === undefined ? 'is' : `redirects from ${from.host} to`
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw refused(`${whither} an address of ${url.protocol.slice(0, 20)}; expected http: or https:`)
  }
  if (url.username !== '' || url.password !== '')
    throw refused(`${whither} a URL with a user name or a password`)
  const { host, hostname } = url
  const shown = host.slice(0, 260)
  // Without a port in it, an entry means that of the scheme, which `host` leaves out as well.
  if (!allowedHosts.includes(host)) {
    throw refused(
      `${whither} a URL of ${shown}, which is not among the hosts that this service asks`,
    )
  }
  const literal = hostname.replace(/^\[(.*)\]$/, '$1')
  if (isIP(literal) !== 0 && !isAllowedAddress(literal)) {
    throw refused(`${whither} a URL of ${shown}, which is not a public address`)
  }
  return url
}
