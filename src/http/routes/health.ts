/** GET /health/live and /health/ready. */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { TandemError } from '../../errors.js'
import type { Retrieval } from '../../retrieval/retrieval.js'
import type { Readiness } from '../plugins/overload.js'
import { NoQuery } from '../schemas/fields.js'
import { HealthReply } from '../schemas/health.js'

interface HealthOptions {
  readiness: Readiness
  retrieval: Retrieval
}

export const healthRoutes: FastifyPluginCallbackTypebox<HealthOptions> = (
  app,
  { readiness, retrieval },
  done,
) => {
  const config = { open: true, rateLimit: false } as const
  const schema = { tags: ['health'], querystring: NoQuery }

  app.get(
    '/health/live',
    {
      config,
      schema: {
        ...schema,
        operationId: 'getLiveness',
        summary: 'Whether the process lives',
        response: { 200: HealthReply },
      },
    },
    () => ({ status: 'live' }),
  )

  app.get(
    '/health/ready',
    {
      config,
      schema: {
        ...schema,
        operationId: 'getReadiness',
        summary: 'Whether requests can be answered',
        response: { 200: HealthReply, 503: HealthReply },
      },
    },
    (_request, reply) => {
      const { state: status, detail } = stateOf(readiness, retrieval)
      reply.code(status === 'ready' ? 200 : 503).header('cache-control', 'no-store')
      return { status, detail }
    },
  )
  done()
}

/** @throws TandemError not_ready, with the reason of /health/ready */
export function checkReady(readiness: Readiness, retrieval: Retrieval): void {
  const { state, detail } = stateOf(readiness, retrieval)
  if (state === 'ready') return
  throw new TandemError('not_ready', `The service is ${state}: ${detail}.`, { retryAfterS: 1 })
}

/**
 * A service is not ready while it has no worker of some name; with several of that name, one for
 * each GPU, it is. It stays ready while the engine is away: all services share the engine, so other
 * services could not answer either.
 */
function stateOf(
  readiness: Readiness,
  { workers, engine }: Retrieval,
): { state: string; detail: string } {
  if (readiness.state !== 'ready') return readiness
  const ready = new Set(workers.filter((worker) => worker.ready).map(({ name }) => name))
  const missing = new Set(workers.map(({ name }) => name).filter((name) => !ready.has(name)))
  if (missing.size > 0) {
    const detail = `being started again after a failure: ${[...missing].join(', ')}`
    return { state: 'recovering', detail }
  }
  if (engine === null || engine.state === 'closed') return readiness
  const detail = `${engine.name} does not answer: searches and writes are refused until it does`
  return { state: 'ready', detail }
}
