/** Checks how a request is encoded before its body is read: percent codes, charset, compression. */
import type { IncomingMessage } from 'node:http'
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { clip, TandemError } from '../../errors.js'
import { hex } from '../utf8.js'

const ITEM_PATH = /^(\/items\/)([^?]*?[^/?][^?]*?)(\/image)?(\?.*)?$/
const NOT_ASCII = /[\x80-\xff]/g
const CHARSET = /;\s*charset\s*=\s*"?([^";\s]+)/i
const UTF8 = /^(utf-?8|us-ascii)$/i
/** Other bodies are bytes. */
const TEXT_TYPE = /^\s*(application\/(json|x-ndjson)|multipart\/)/

/**
 * The URL to route. Bytes that are not ASCII become percent codes. A slash in an id is encoded,
 * since proxies decode `%2F`; `/image` at the end of a path is the image of the item before it.
 */
export function routedUrl({ url = '/' }: Pick<IncomingMessage, 'url'>): string {
  const ascii = url.replace(NOT_ASCII, (letter) => `%${hex(letter.charCodeAt(0))}`)
  const [, start, id, image = '', query = ''] = ITEM_PATH.exec(ascii) ?? []
  if (start === undefined || id === undefined) return ascii
  return `${start}${id.replaceAll('/', '%2F')}${image}${query}`
}

/** Register it before the parsers of bodies. */
export const requestHead = plugin(
  (app, _options, done) => {
    app.addHook('onRequest', (request, _reply, next) => {
      try {
        checkUrl(request.url)
        checkBodyEncoding(request)
        next()
      } catch (error) {
        next(error as Error)
      }
    })
    done()
  },
  { name: 'request-head', dependencies: ['problems'] },
)

function checkUrl(url: string): void {
  if (!url.includes('%')) return
  const end = url.indexOf('?')
  const parts = end === -1 ? [] : url.slice(end + 1).split('&')
  for (const part of parts) {
    if (isDecodable(part)) continue
    const [name = ''] = part.split('=', 1)
    throw new TandemError('url_unreadable', {
      place: `The parameter ${clip(name, 60)}`,
      codes: clip(part.slice(name.length + 1), 60),
    })
  }
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

function checkBodyEncoding({ method, raw }: FastifyRequest): void {
  if (method === 'GET' || method === 'HEAD') return
  const { headers } = raw
  const coding = headers['content-encoding']?.trim().toLowerCase()
  if (coding !== undefined && coding !== '' && coding !== 'identity') {
    throw new TandemError(
      'media_type_unsupported',
      `The Content-Encoding is ${JSON.stringify(clip(coding, 60))}; expected a body without compression.`,
    )
  }
  const type = headers['content-type']
  if (type === undefined) return
  // Media types have no case; a boundary has.
  const [mediaType = ''] = type.split(';', 1)
  headers['content-type'] = mediaType.toLowerCase() + type.slice(mediaType.length)
  const charset = CHARSET.exec(type)?.[1]
  if (charset === undefined || UTF8.test(charset) || !TEXT_TYPE.test(mediaType.toLowerCase()))
    return
  throw new TandemError('text_unreadable', {
    place: 'The body',
    what: `has the charset ${JSON.stringify(clip(charset, 60))} in its Content-Type`,
  })
}
