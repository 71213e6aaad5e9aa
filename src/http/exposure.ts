/** Checks that a service without API keys is not reachable by mistake. */
import { isIPv4 } from 'node:net'

/**
 * @param host - a name or an address, IPv6 with or without brackets
 * @returns whether only this machine can reach a service that listens there
 */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, '$1')
  const address = name.replace(/^::ffff:/, '')
  return name === 'localhost' || name === '::1' || (isIPv4(address) && address.startsWith('127.'))
}

export interface ExposureOptions {
  host: string
  apiKeys: readonly string[]
  apiKeysFile?: string | undefined
  trustedNetwork: boolean
}

/**
 * The log line about a service without keys; null with keys.
 *
 * @throws Error with a sentence that says what to do, if other machines could reach a service
 *   without keys
 */
export function exposureRemark({
  host,
  apiKeys,
  apiKeysFile,
  trustedNetwork,
}: ExposureOptions): string | null {
  if (apiKeys.length > 0 || apiKeysFile !== undefined) return null
  if (isLoopback(host))
    return `no API keys are set: only this machine can reach the service, at ${host}`
  if (trustedNetwork) {
    return `no API keys are set and TRUSTED_NETWORK is true: every client that reaches ${host} can read and change all items`
  }
  throw new Error(
    `HOST is ${host}, which others can reach, and no API keys are set. Set API_KEYS or API_KEYS_FILE ` +
      '("tandem key" makes one), or HOST=127.0.0.1 to serve this machine only, or TRUSTED_NETWORK=true if every ' +
      'client that reaches the service may read and change all items.',
  )
}
