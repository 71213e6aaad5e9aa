/** Whether the process lives, and whether it can answer. */
import type { FastifyPluginCallback } from 'fastify'
import type { Readiness } from '../readiness.js'
import { NoQuery } from '../requests.js'
import { HealthReply } from '../schemas.js'

export const healthRoutes: FastifyPluginCallback<{ readiness: Readiness }> = (app, { readiness }, done) => {
  const config = { open: true }
  const schema = { tags: ['health'], querystring: NoQuery }

  app.get(
    '/health/live',
    { config, schema: { ...schema, summary: 'Whether the process lives', response: { 200: HealthReply } } },
    () => ({ status: 'live' }),
  )

  const response = { 200: HealthReply, 503: HealthReply }
  app.get(
    '/health/ready',
    { config, schema: { ...schema, summary: 'Whether requests can be answered', response } },
    (_request, reply) => {
      const { state, detail } = readiness
      reply.code(state === 'ready' ? 200 : 503).header('cache-control', 'no-store')
      return { status: state, detail }
    },
  )
  done()
}
