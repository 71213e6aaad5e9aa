/** The search page at /, and the list of errors that problem+json points to. */
import { join } from 'node:path'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance, FastifyPluginAsync, FastifyPluginCallback } from 'fastify'
import { packageFolder } from '../../config.js'
import { errorTable } from '../../errors.js'

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; " +
  "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

export const pageRoutes: FastifyPluginAsync = async (app) => {
  addHooks(app)
  // Every file is a route of its own: an unknown address is a problem+json, not a missing file.
  await app.register(fastifyStatic, {
    root: join(packageFolder, 'web'),
    wildcard: false,
    cacheControl: false,
  })
}

export const errorsRoute: FastifyPluginCallback = (app, _options, done) => {
  addHooks(app)
  app.get('/docs/errors', (_request, reply) =>
    reply.type('text/html; charset=utf-8').send(errorsPage()),
  )
  done()
}

/** Open to all, not an operation of the API, and with a content policy for a page. */
function addHooks(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, open: true }
    route.schema = { ...route.schema, hide: true }
  })
  app.addHook('onRequest', (_request, reply, next) => {
    reply.header('content-security-policy', POLICY)
    next()
  })
}

function errorsPage(): string {
  const rows = Object.entries(errorTable).map(
    ([code, { status, title }]) =>
      `<tr id="${code}"><td>${status}</td><td><code>${code}</code></td><td>${title}</td></tr>`,
  )
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Tandem: errors</title><h1>Errors</h1><table>${rows.join('')}</table></html>`
}
