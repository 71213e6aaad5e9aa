/**
 * The OpenAPI document at /openapi.json and its page at /docs, both made from the schemas of the
 * routes.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import plugin from 'fastify-plugin'
import { packageFolder } from '../../config.js'
import { scopeNeeded } from './auth.js'
import { documentedErrors } from './documented-errors.js'

const { version, description } = JSON.parse(
  readFileSync(join(packageFolder, 'package.json'), 'utf8'),
) as {
  version: string
  description: string
}

// Everything comes from the service itself, also over plain http and without the internet.
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; frame-ancestors 'none'"

const REQUEST_TIMEOUT = {
  type: 'string',
  pattern: '^(?=.*[1-9])[0-9]{1,6}([.][0-9]{1,6})?$',
  description:
    'Seconds that the client waits: what would not be done by then is refused with 503, before work is spent on it',
}

/** Register it before the routes that it describes. */
export const openapi = plugin<{ keysNeeded: boolean }>(async (app, { keysNeeded }) => {
  const securitySchemes = {
    bearer: { type: 'http', scheme: 'bearer' },
    header: { type: 'apiKey', name: 'x-api-key', in: 'header' },
  } as const
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Tandem', version, description },
      tags: [
        { name: 'search', description: 'Find items by a sentence, an image or another item' },
        { name: 'items', description: 'Add, replace, read and remove items' },
        { name: 'embed', description: 'Embeddings of texts and images' },
        { name: 'rerank', description: 'Order documents by their relevance to a query' },
        { name: 'encoder', description: 'The models, for services that search' },
        { name: 'backups', description: 'Copies of all items, and their return' },
        { name: 'reembedding', description: 'Change the bundle without downtime' },
        { name: 'health', description: 'For whoever runs the service' },
      ],
      ...(keysNeeded ? { components: { securitySchemes } } : {}),
    },
    transform: ({ schema, url, route }) => {
      const { method, config } = route
      const response = {
        ...documentedErrors({ method, config, keysNeeded }),
        ...(schema?.response as object | undefined),
      }
      const isTimed = config?.open !== true && config?.permit !== false
      const headers = isTimed
        ? { headers: { type: 'object', properties: { 'request-timeout': REQUEST_TIMEOUT } } }
        : {}
      const documented = { ...schema, ...headers, response }
      if (!keysNeeded) return { schema: documented, url }
      const scope = scopeNeeded(method, config?.scope)
      const security = config?.open === true ? [] : [{ bearer: [scope] }, { header: [scope] }]
      return { schema: { ...documented, security }, url }
    },
  })
  await app.register(async (docs) => {
    docs.addHook('onRoute', (route) => {
      route.config = { ...route.config, open: true }
    })
    await docs.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: POLICY,
      uiConfig: { validatorUrl: null },
    })
    docs.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
  })
})
