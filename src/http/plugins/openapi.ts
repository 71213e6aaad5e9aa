/** The OpenAPI document of all routes at /openapi.json, and its page at /docs. */
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import swagger from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
import plugin from 'fastify-plugin'
import { packageInfo } from '../../config.js'
import { documentRoutes, filesIn } from '../documents.js'
import { withNamedSchemas } from '../named-schemas.js'
import { scopeNeeded } from './auth.js'
import { documentedErrors } from './documented-errors.js'

// The service itself serves all parts of the page: it works without the internet.
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; frame-ancestors 'none'"

const require = createRequire(import.meta.url)
/** The files of Swagger UI that the page needs; its plugin would serve them as open streams. */
const ASSETS = ['swagger-ui.css', 'index.css', 'swagger-ui-bundle.js', 'favicon-32x32.png']

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Tandem: the API</title>
<link rel="stylesheet" href="docs/static/swagger-ui.css">
<link rel="stylesheet" href="docs/static/index.css">
<link rel="icon" type="image/png" href="docs/static/favicon-32x32.png">
<div id="swagger-ui"></div>
<script src="docs/static/swagger-ui-bundle.js"></script>
<script src="docs/static/initializer.js"></script>
</html>`

const INITIALIZER = `SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  validatorUrl: null,
})
`

const SERVERS = [
  // Relative to the document, so that it is right behind a path prefix.
  { url: '.', description: 'The service that has this document' },
  { url: 'http://127.0.0.1:3000', description: 'A service on this machine, with its defaults' },
]

const REQUEST_TIMEOUT = {
  type: 'string',
  pattern: '^(?=.*[1-9])[0-9]{1,6}([.][0-9]{1,6})?$',
  description:
    'Seconds that the client waits. A request that would take longer is refused with 503 before any work.',
}

/** Register it before the routes that it describes. */
export const openapi = plugin<{ keysNeeded: boolean }>(
  async (app, { keysNeeded }) => {
    const securitySchemes = {
      bearer: { type: 'http', scheme: 'bearer' },
      header: { type: 'apiKey', name: 'x-api-key', in: 'header' },
    } as const
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Tandem',
          version: packageInfo.version,
          description: packageInfo.description,
        },
        tags: [
          { name: 'search', description: 'Find items by a sentence, an image or another item' },
          { name: 'items', description: 'Add, replace, read and remove items' },
          { name: 'embed', description: 'Embeddings of texts and images' },
          { name: 'rerank', description: 'Order documents by their relevance to a query' },
          { name: 'clients', description: 'For the clients of other services (DIALECTS)' },
          { name: 'encoder', description: 'The models, for services that search' },
          { name: 'backups', description: 'Make, list, restore and remove copies of all items' },
          { name: 'reembedding', description: 'Change the bundle without downtime' },
          { name: 'health', description: 'For the operator of the service' },
        ],
        ...(keysNeeded ? { components: { securitySchemes } } : {}),
      },
      transform: ({ schema, url, route }) => {
        const { method, config } = route
        const response = withContents(
          documentedErrors({ method, config, keysNeeded }),
          schema?.response as Record<string, object> | undefined,
        )
        const isTimed = config?.open !== true && config?.permit !== false
        const headers = isTimed
          ? { headers: { type: 'object', properties: { 'request-timeout': REQUEST_TIMEOUT } } }
          : {}
        const operationId = schema?.operationId ?? idOf([method].flat()[0] ?? '', url)
        const documented = { ...schema, operationId, ...headers, response }
        if (!keysNeeded) return { schema: documented, url }
        const scope = scopeNeeded(method, config?.scope)
        const security = config?.open === true ? [] : [{ bearer: [scope] }, { header: [scope] }]
        return { schema: { ...documented, security }, url }
      },
    })
    const hidden = { config: { open: true }, schema: { hide: true } }
    app.get('/docs/', hidden, (_request, reply) => reply.redirect('../docs'))
    const assets = dirname(require.resolve('@fastify/swagger-ui/static/swagger-ui.css'))
    await app.register(documentRoutes, {
      policy: POLICY,
      documents: {
        '/docs': Buffer.from(PAGE),
        '/docs/static/initializer.js': Buffer.from(INITIALIZER),
        ...filesIn(assets, ASSETS, '/docs/static/'),
        '/openapi.json': () => Buffer.from(JSON.stringify(documentOf(app))),
      },
    })
  },
  { name: 'openapi', dependencies: ['auth', 'overload'] },
)

function documentOf(app: FastifyInstance): object {
  return withNamedSchemas({ ...app.swagger(), servers: SERVERS })
}

/** "POST /v1/models/:id" → postV1ModelsId */
function idOf(method: string, url: string): string {
  const words = url.split(/\W+/).filter((word) => word !== '')
  return [
    method.toLowerCase(),
    ...words.map((word) => word[0]?.toUpperCase() + word.slice(1)),
  ].join('')
}

interface Response {
  description?: string
  content?: Record<string, object>
}

/** The responses of a route and its errors; a status of both has the contents of both. */
function withContents(
  errors: Record<string, Response>,
  responses: Record<string, Response> = {},
): Record<string, Response> {
  const own = Object.entries(responses).map(([status, response]) => {
    const error = errors[status]
    if (error === undefined || response.content === undefined) return [status, response] as const
    const description = `${error.description}, or: ${response.description}`
    return [status, { description, content: { ...error.content, ...response.content } }] as const
  })
  return { ...errors, ...Object.fromEntries(own) }
}
