/**
 * DOOR of remote images: fetches an image from an address that a client names, without becoming the
 * client's arm.
 *
 * Only hosts of a list are asked, and only at public addresses: every address that a name resolves
 * to is checked at the moment of connecting, and what was checked is what is connected to, so that
 * a name cannot turn to another address in between (DNS rebinding). A redirect is a new address
 * that passes the same checks. Type, size and time have limits.
 */
import { TandemError } from '../errors.js'
import { isPublicAddress } from './addresses.js'
import { checkedUrl } from './allowed-hosts.js'
import { checkedLookup, systemResolve, type Resolve } from './lookup.js'
import { notFetched, imageIn, replyOf } from './reply.js'
import { Limiter } from '../async/limiter.js'
import { within } from '../async/signals.js'

export interface RemoteImagesOptions {
  /**
   * Hosts that may be asked, each with or without a port; without one, the port of the scheme.
   * None: nothing is.
   */
  allowedHosts: readonly string[]
  /** For one image, its redirects included, in milliseconds. */
  timeoutMs?: number
  /**
   * How names become addresses, and which of them may be connected to; a test may put others in
   * their place.
   */
  resolve?: Resolve
  isAllowedAddress?: (address: string) => boolean
}

/** On whose behalf an image is fetched. */
export interface ImageCall {
  /** How an error names the value, such as "inputs[2].image". */
  name: string
  /** What all images of one request may still take together; it shrinks as bytes arrive. */
  budget: { bytes: number }
  signal?: AbortSignal | undefined
}

export interface RemoteImages {
  /**
   * The bytes of the image at `url`, whatever they are: they are as little to be trusted as an
   * uploaded file.
   * @throws TandemError image_url_not_allowed, image_not_fetched, image_type_unsupported,
   *   body_too_large
   */
  readonly fetch: (url: string, call: ImageCall) => Promise<Uint8Array>
}

const TIMEOUT_MS = 10_000
const MOST_REDIRECTS = 3
/**
 * Fetches under way at a time: each may hold as much memory as a body. The others wait, within
 * their time.
 */
const AT_A_TIME = 16

export function openRemoteImages(options: RemoteImagesOptions): RemoteImages {
  const {
    allowedHosts,
    timeoutMs = TIMEOUT_MS,
    resolve = systemResolve,
    isAllowedAddress = isPublicAddress,
  } = options
  const lookup = checkedLookup(resolve, isAllowedAddress)
  const limiter = new Limiter(AT_A_TIME)

  async function follow(given: string, call: ImageCall, signal: AbortSignal): Promise<Uint8Array> {
    let url = checkedUrl(given, call.name, allowedHosts, isAllowedAddress)
    for (let redirects = 0; ; redirects += 1) {
      const reply = await replyOf(url, lookup, call.name, signal)
      if (!('redirect' in reply)) return imageIn(reply.response, url, call)
      if (redirects === MOST_REDIRECTS) {
        throw notFetched(call.name, url, `it redirects more than ${MOST_REDIRECTS} times`)
      }
      const next = checkedUrl(reply.redirect, call.name, allowedHosts, isAllowedAddress, url)
      if (url.protocol === 'https:' && next.protocol === 'http:') {
        throw notFetched(call.name, url, 'it redirects from https to http')
      }
      url = next
    }
  }

  return {
    fetch: async (url, call) => {
      const { name, signal } = call
      if (allowedHosts.length === 0) {
        throw new TandemError(
          'image_url_not_allowed',
          `${name} is a URL, and this service fetches none; expected the image as base64 or as a data-URI.`,
        )
      }
      checkedUrl(url, name, allowedHosts, isAllowedAddress)
      const timeUp = (): Error =>
        notFetched(name, new URL(url), `it took longer than ${timeoutMs} ms`)
      return within(timeoutMs, signal, timeUp, (limited) =>
        limiter.run(() => follow(url, call, limited), { signal: limited }),
      )
    },
  }
}
