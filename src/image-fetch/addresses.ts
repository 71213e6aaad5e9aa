/** Tells public internet addresses from those of private networks. */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Global unicast; the rest is reserved or tunnels IPv4. */
const GLOBAL_V6 = ipaddr.IPv6.parseCIDR('2000::/3')
/** Azure's platform service has a public address and returns secrets of the machine. */
const PLATFORM_V4 = new Set(['168.63.129.16'])

/**
 * Whether `address` is global unicast. Private, loopback, link-local, shared, documentation and
 * multicast addresses are not, and neither are IPv6 forms that carry an IPv4 address (mapped,
 * compatible, NAT64, 6to4, Teredo).
 *
 * @param address - as a resolver returns it: dotted decimal, or IPv6
 */
export function isPublicAddress(address: string): boolean {
  if (isIP(address) === 0) return false
  const parsed = ipaddr.parse(address)
  if (parsed.range() !== 'unicast') return false
  if (parsed instanceof ipaddr.IPv6) return parsed.match(GLOBAL_V6)
  return !PLATFORM_V4.has(parsed.toString())
}
