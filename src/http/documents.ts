/**
 * Serves pages and files out of memory, so that an unread reply holds no open file, and
 * a browser that has the bytes gets 304.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import etag from '@fastify/etag'
import type { FastifyPluginAsync } from 'fastify'

export interface DocumentOptions {
  /** The Content-Security-Policy of all of them. */
  policy: string
  /** Path → its bytes; a function is called once, at the first request. */
  documents: Readonly<Record<string, Buffer | (() => Buffer)>>
}

const TYPES: Readonly<Record<string, string>> = {
  '': 'text/html; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
}

/** The files `names` of `folder`, by their path below `prefix`. */
export function filesIn(
  folder: string,
  names: readonly string[],
  prefix: string,
): Record<string, Buffer> {
  return Object.fromEntries(
    names.map((name) => [`${prefix}${name}`, readFileSync(join(folder, name))]),
  )
}

/** Each document is open to all, and no operation of the API. */
export const documentRoutes: FastifyPluginAsync<DocumentOptions> = async (
  app,
  { policy, documents },
) => {
  await app.register(etag)
  for (const [path, source] of Object.entries(documents)) {
    let known: { bytes: Buffer; tag: string } | undefined
    app.get(path, { config: { open: true }, schema: { hide: true } }, (_request, reply) => {
      known ??= tagged(typeof source === 'function' ? source() : source)
      return reply
        .headers({
          'content-type': TYPES[extname(path)],
          'content-security-policy': policy,
          'cache-control': 'no-cache',
          etag: known.tag,
        })
        .send(known.bytes)
    })
  }
}

function tagged(bytes: Buffer): { bytes: Buffer; tag: string } {
  const digest = createHash('sha256').update(bytes).digest('base64url')
  return { bytes, tag: `"${digest.slice(0, 22)}"` }
}
