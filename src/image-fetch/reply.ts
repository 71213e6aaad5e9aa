/** One request to a checked host, and the image in its reply. */
import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps } from 'node:https'
import type { LookupFunction } from 'node:net'
import { clip, TandemError } from '../errors.js'
import type { FetchCall } from './image-fetch.js'
import { AddressNotAllowedError } from './lookup.js'

const REDIRECTS = new Set([301, 302, 303, 307, 308])
/** Types that storage services give to files of unknown type. */
const UNKNOWN_TYPES = new Set(['application/octet-stream', 'binary/octet-stream'])

/** The error of a failed fetch names only the host: the rest of the URL may be secret. */
export function notFetched(name: string, url: URL, why: string, cause?: unknown): TandemError {
  return new TandemError(
    'image_not_fetched',
    { name, host: url.host.slice(0, 260), reason: why },
    { cause },
  )
}

/**
 * Requests `url` on a new connection: a kept one was checked for another request.
 *
 * @throws TandemError image_url_not_allowed where the host has an address that is not public,
 *   image_not_fetched
 */
export async function replyOf(
  url: URL,
  lookup: LookupFunction,
  name: string,
  signal: AbortSignal,
): Promise<{ redirect: string } | { response: IncomingMessage }> {
  const response = await ask(url, lookup, signal).catch((error: NodeJS.ErrnoException) => {
    signal.throwIfAborted()
    if (error instanceof AddressNotAllowedError) {
      const sentence = `${name} is a URL of ${url.host.slice(0, 260)}, which does not have public addresses alone.`
      throw new TandemError('image_url_not_allowed', sentence, { cause: error })
    }
    throw notFetched(name, url, `the connection failed (${error.code ?? error.name})`, error)
  })
  const { statusCode = 0, headers } = response
  if (REDIRECTS.has(statusCode) && headers.location !== undefined) {
    response.destroy()
    return { redirect: headers.location }
  }
  if (statusCode === 200) return { response }
  response.destroy()
  throw notFetched(name, url, `it answered ${statusCode} instead of 200`)
}

/** @throws TandemError image_type_unsupported, body_too_large, image_not_fetched */
export async function imageIn(
  response: IncomingMessage,
  url: URL,
  call: FetchCall,
): Promise<Uint8Array> {
  const { name, budget } = call
  try {
    refuseByHead(response, url, call)
    const pieces: Buffer[] = []
    for await (const piece of response as AsyncIterable<Buffer>) {
      budget.bytes -= piece.length
      if (budget.bytes < 0) throw tooLarge(name, url)
      pieces.push(piece)
    }
    if (pieces.length === 0) throw notFetched(name, url, 'it sent nothing')
    return Buffer.concat(pieces)
  } catch (error) {
    if (error instanceof TandemError) throw error
    throw notFetched(name, url, 'the connection broke off', error)
  } finally {
    response.destroy()
  }
}

function ask(url: URL, lookup: LookupFunction, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { accept: 'image/*', 'accept-encoding': 'identity', 'user-agent': 'tandem' }
    const send = url.protocol === 'https:' ? requestHttps : requestHttp
    send(url, { lookup, agent: false, signal, headers }, resolve).on('error', reject).end()
  })
}

function refuseByHead({ headers }: IncomingMessage, url: URL, { name, budget }: FetchCall): void {
  const type = headers['content-type']?.split(';')[0]?.trim().toLowerCase() ?? ''
  if (!type.startsWith('image/') && !UNKNOWN_TYPES.has(type)) {
    throw new TandemError(
      'image_type_unsupported',
      `${name}: ${url.host.slice(0, 260)} sends ${JSON.stringify(clip(type, 60))} instead of an image.`,
    )
  }
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity')
    throw notFetched(name, url, 'it sends the image with a content encoding; expected identity')
  if (Number(headers['content-length'] ?? 0) > budget.bytes) throw tooLarge(name, url)
}

function tooLarge(name: string, url: URL): TandemError {
  return new TandemError(
    'body_too_large',
    `${name} at ${url.host.slice(0, 260)} is larger than the limit of this service for all images of a request.`,
  )
}
