/** The OpenAPI document at /openapi.json and its page at /docs, both made from the schemas of the routes. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import plugin from 'fastify-plugin'
import { packageFolder } from '../config.js'

const { version, description } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8')) as {
  version: string
  description: string
}

/** Register it before the routes that it describes. */
export const openapi = plugin<{ keysNeeded: boolean }>(async (app, { keysNeeded }) => {
  const key = { type: 'http', scheme: 'bearer' } as const
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Tandem', version, description },
      ...(keysNeeded ? { components: { securitySchemes: { key } }, security: [{ key: [] }] } : {}),
    },
  })
  await app.register(async (docs) => {
    docs.addHook('onRoute', (route) => {
      route.config = { ...route.config, open: true }
    })
    await docs.register(swaggerUi, { routePrefix: '/docs', staticCSP: true })
    docs.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
  })
})
