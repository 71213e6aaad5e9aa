/** Tells public internet addresses, those of private networks, and the rest apart. */
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** Global unicast; the rest is reserved or tunnels IPv4. */
const GLOBAL_V6 = ipaddr.IPv6.parseCIDR('2000::/3')
/** Azure's platform service has a public address and returns secrets of the machine. */
const PLATFORM_V4 = new Set(['168.63.129.16'])

/** Addresses of private networks that the machine itself uses. */
const PRIVATE_RANGES = new Set(['private', 'loopback', 'uniqueLocal'])
/** Where AWS, Google and Oracle answer with secrets of a machine, in unique local addresses. */
const METADATA_V6 = ['fd00:ec2::/32', 'fd20:ce::/32', 'fd00:c1::/32'].map((range) =>
  ipaddr.IPv6.parseCIDR(range),
)

/**
 * Whether `address` is loopback or of a private network (RFC 1918, RFC 4193). Addresses at which a
 * cloud answers with the secrets of a machine are not, link-local ones among them.
 *
 * @param address - as a resolver returns it: dotted decimal, or IPv6
 */
export function isPrivateAddress(address: string): boolean {
  if (isIP(address) === 0) return false
  const parsed = ipaddr.parse(address)
  if (!PRIVATE_RANGES.has(parsed.range())) return false
  return !(parsed instanceof ipaddr.IPv6 && METADATA_V6.some((range) => parsed.match(range)))
}

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
