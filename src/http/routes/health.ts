/** Whether the process lives, and whether it can answer. */
import type { FastifyPluginCallback } from 'fastify'
import type { Readiness } from '../readiness.js'
import { NoQuery } from '../schemas/requests.js'
import type { Retrieval } from '../../retrieval/retrieval.js'
import { HealthReply } from '../schemas/fields.js'

interface HealthOptions {
  readiness: Readiness
  retrieval: Retrieval
}

export const healthRoutes: FastifyPluginCallback<HealthOptions> = (
  app,
  { readiness, retrieval },
  done,
) => {
  const config = { open: true }
  const schema = { tags: ['health'], querystring: NoQuery }

  app.get(
    '/health/live',
    {
      config,
      schema: { ...schema, summary: 'Whether the process lives', response: { 200: HealthReply } },
    },
    () => ({ status: 'live' }),
  )

  const response = { 200: HealthReply, 503: HealthReply }
  app.get(
    '/health/ready',
    { config, schema: { ...schema, summary: 'Whether requests can be answered', response } },
    (_request, reply) => {
      const { state, detail } = present(readiness, retrieval)
      reply.code(state === 'ready' ? 200 : 503).header('cache-control', 'no-store')
      return { status: state, detail }
    },
  )
  done()
}

/**
 * What was ready is not while one of its processes is away; the requests that do without that one
 * are answered. Of several that do the same, one for each GPU, the others go on.
 */
function present(
  readiness: Readiness,
  { workers, engine }: Retrieval,
): { state: string; detail: string } {
  const names = [...new Set(workers.map(({ name }) => name))]
  const away = names.filter(
    (name) => !workers.some((worker) => worker.name === name && worker.ready),
  )
  if (
    readiness.state === 'ready' &&
    away.length === 0 &&
    engine !== null &&
    engine.state !== 'closed'
  ) {
    // All services share the engine: to send requests elsewhere would help nobody, and they are
    // refused in words here.
    return {
      state: 'ready',
      detail: `${engine.name} does not answer: searches and writes are refused until it does`,
    }
  }
  if (readiness.state !== 'ready' || away.length === 0) return readiness
  return { state: 'recovering', detail: `being started again after a failure: ${away.join(', ')}` }
}
