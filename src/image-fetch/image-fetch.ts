/** Contract of the image fetch: images from URLs that a client names. */

export interface ImageFetchOptions {
  /** Hosts, each with or without a port; the port of the scheme by default. Empty: no fetches. */
  allowedHosts: readonly string[]
  /** Further hosts, written alike, that may have addresses of private networks. */
  privateHosts?: readonly string[]
  /** For one image with its redirects. */
  timeoutMs?: number
  /** Resolves names; a test may replace it. */
  resolve?: Resolve
  /** Addresses that any listed host may have; public ones by default. */
  isAllowedAddress?: (address: string) => boolean
}

/** All addresses of a host. */
export type Resolve = (hostname: string) => Promise<readonly string[]>

/** The request that needs the image. */
export interface FetchCall {
  /** Name of the value in errors, such as "inputs[2].image". */
  name: string
  /** Bytes left for all images of the request; decreases as bytes arrive. */
  budget: { bytes: number }
  signal?: AbortSignal | undefined
}

export interface ImageFetch {
  /**
   * @returns untrusted bytes, like those of an uploaded file
   * @throws TandemError image_url_not_allowed, image_not_fetched, image_type_unsupported,
   *   body_too_large
   */
  readonly fetch: (url: string, call: FetchCall) => Promise<Uint8Array>
}
