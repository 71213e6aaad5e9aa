/**
 * Fetches images without letting a client reach private networks (SSRF).
 *
 * Only listed hosts are fetched, and only at public addresses, unless the host is listed as one of
 * a private network. Every resolved address is checked
 * when the connection is made, so a name cannot change its address in between (DNS rebinding). A
 * redirect passes the same checks. Type, size and time are limited.
 */
import { Limiter } from '../async/limiter.js'
import { within } from '../async/signals.js'
import { TandemError } from '../errors.js'
import { isPrivateAddress, isPublicAddress } from './addresses.js'
import { checkedUrl, type HostRules } from './allowed-hosts.js'
import type { FetchCall, ImageFetch, ImageFetchOptions } from './image-fetch.js'
import { checkedLookup, systemResolve } from './lookup.js'
import { imageIn, notFetched, replyOf } from './reply.js'

const TIMEOUT_MS = 10_000
const MAX_REDIRECTS = 3
/** Concurrent fetches, because each may hold as much memory as a body. Others wait. */
const MAX_CONCURRENT = 16

export function openImageFetch(options: ImageFetchOptions): ImageFetch {
  const {
    allowedHosts,
    privateHosts = [],
    timeoutMs = TIMEOUT_MS,
    resolve = systemResolve,
    isAllowedAddress = isPublicAddress,
  } = options
  const listed = new Set([...allowedHosts, ...privateHosts])
  const rules: HostRules = {
    isListed: (host) => listed.has(host),
    addressCheck: (host) =>
      privateHosts.includes(host)
        ? (address) => isAllowedAddress(address) || isPrivateAddress(address)
        : isAllowedAddress,
  }
  const limiter = new Limiter(MAX_CONCURRENT)

  async function follow(
    address: string,
    call: FetchCall,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    let url = checkedUrl(address, call.name, rules)
    for (let redirects = 0; ; redirects += 1) {
      const lookup = checkedLookup(resolve, rules.addressCheck(url.host))
      const reply = await replyOf(url, lookup, call.name, signal)
      if (!('redirect' in reply)) return imageIn(reply.response, url, call)
      if (redirects === MAX_REDIRECTS) {
        throw notFetched(call.name, url, `it redirects more than ${MAX_REDIRECTS} times`)
      }
      const next = checkedUrl(reply.redirect, call.name, rules, url)
      if (url.protocol === 'https:' && next.protocol === 'http:') {
        throw notFetched(call.name, url, 'it redirects from https to http')
      }
      url = next
    }
  }

  return {
    fetch: async (url, call) => {
      const { name, signal } = call
      if (listed.size === 0) {
        throw new TandemError(
          'image_url_not_allowed',
          `${name} is a URL, and this service fetches none; expected the image as base64 or as a data-URI.`,
        )
      }
      checkedUrl(url, name, rules)
      const timeoutError = (): Error =>
        notFetched(name, new URL(url), `it took longer than ${timeoutMs} ms`)
      return within(timeoutMs, signal, timeoutError, (limited) =>
        limiter.run(() => follow(url, call, limited), { signal: limited }),
      )
    },
  }
}
