/**
 * Which addresses are of the public internet, and so of nobody that trusts this machine more than a
 * stranger.
 */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** What is handed out as global unicast; all else is reserved, or reaches IPv4 by a detour. */
const GLOBAL_V6 = ipaddr.IPv6.parseCIDR('2000::/3')
/**
 * Public by its number, and yet it answers inside of Azure alone: with the secrets of the machine
 * that asks.
 */
const PLATFORM_V4 = new Set(['168.63.129.16'])

/**
 * Whether `address` is global unicast. Private, loopback, link-local, shared, documentation and
 * multicast addresses are not, and neither are IPv6 forms that carry an IPv4 address (mapped,
 * compatible, NAT64, 6to4, Teredo).
 *
 * @param address - as a resolver gives it: four decimal numbers, or IPv6
 */
export function isPublicAddress(address: string): boolean {
  if (isIP(address) === 0) return false
  const parsed = ipaddr.parse(address)
  if (parsed.range() !== 'unicast') return false
  if (parsed instanceof ipaddr.IPv6) return parsed.match(GLOBAL_V6)
  return !PLATFORM_V4.has(parsed.toString())
}
