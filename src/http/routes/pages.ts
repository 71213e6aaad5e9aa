/** The search page at /, and the list of errors that problem+json points to. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyPluginAsync } from 'fastify'
import { packageFolder } from '../../config.js'
import { errorTable } from '../../errors.js'
import { documentRoutes, filesIn } from '../documents.js'

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; " +
  "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

export const pageRoutes: FastifyPluginAsync = async (app) => {
  const folder = join(packageFolder, 'web')
  const { '/index.html': page, ...files } = filesIn(folder, readdirSync(folder), '/')
  if (page === undefined) throw new Error(`${folder} has no index.html.`)
  const documents = { '/': page, '/index.html': page, ...files }
  await app.register(documentRoutes, { policy: POLICY, documents })
}

export const errorsRoute: FastifyPluginAsync = async (app) => {
  const documents = { '/docs/errors': Buffer.from(errorsPage()) }
  await app.register(documentRoutes, { policy: POLICY, documents })
}

function errorsPage(): string {
  const rows = Object.entries(errorTable).map(
    ([code, { status, title }]) =>
      `<tr id="${code}"><td>${status}</td><td><code>${code}</code></td><td>${title}</td></tr>`,
  )
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Tandem: errors</title><h1>Errors</h1><table>${rows.join('')}</table></html>`
}
