/**
 * Who can reach the service, and whether that is meant: without keys it serves this machine alone.
 */
import { isIPv4 } from 'node:net'
import type { Config } from '../config.js'

/**
 * @param host - a name or an address, an IPv6 one with or without brackets
 * @returns whether only this machine can reach what listens there
 */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, '$1')
  const address = name.replace(/^::ffff:/, '')
  return name === 'localhost' || name === '::1' || (isIPv4(address) && address.startsWith('127.'))
}

/**
 * What the log says about a service without keys; null with keys.
 *
 * @throws Error with a sentence that says what to do, where strangers could reach a service without
 *   keys
 */
export function exposureRemark(
  config: Pick<Config, 'host' | 'apiKeys' | 'apiKeysFile' | 'trustedNetwork'>,
): string | null {
  const { host, apiKeys, apiKeysFile, trustedNetwork } = config
  if (apiKeys.length > 0 || apiKeysFile !== undefined) return null
  if (isLoopback(host)) return `no API keys are set: only this machine is served, at ${host}`
  if (trustedNetwork) {
    return `no API keys are set and TRUSTED_NETWORK is true: whoever reaches ${host} can read and change all items`
  }
  throw new Error(
    `HOST is ${host}, which others can reach, and no API keys are set. Set API_KEYS or API_KEYS_FILE ` +
      '("tandem key" makes one), or HOST=127.0.0.1 to serve this machine alone, or TRUSTED_NETWORK=true if whoever ' +
      'reaches the service may read and change all items.',
  )
}
