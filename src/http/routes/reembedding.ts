/** The change of bundle: /standby and its switch. */
import type { FastifyPluginCallback } from 'fastify'
import type { Static } from 'typebox'
import { TandemError } from '../../errors.js'
import { NoQuery, StandbyBody } from '../schemas/requests.js'
import type { Retrieval, Upkeep } from '../../retrieval/retrieval.js'
import { StandbyReply } from '../schemas/fields.js'

const NOT_HERE =
  'A bundle stands by beside an embedded collection alone. Index the images with the other bundle into a second ' +
  'collection of the engine (MILVUS_COLLECTION), and start the services with both.'

export const standbyRoutes: FastifyPluginCallback<{ retrieval: Retrieval }> = (
  app,
  { retrieval },
  done,
) => {
  const standby = (): Upkeep['standby'] => {
    if (retrieval.upkeep !== null) return retrieval.upkeep.standby
    throw new TandemError('not_supported', NOT_HERE)
  }
  const schema = { tags: ['standby'], querystring: NoQuery }
  const ok = { response: { 200: StandbyReply } }
  const disk = ['storage_full', 'storage_read_only', 'not_supported'] as const

  app.get(
    '/standby',
    {
      config: { scope: 'admin', fails: ['not_supported'] },
      schema: { ...schema, summary: 'Which bundle serves, and which one stands by', ...ok },
    },
    () => replyOf(standby().status()),
  )

  const start = {
    ...schema,
    summary: 'Let a bundle stand by',
    body: StandbyBody,
    response: { 202: StandbyReply },
  }
  const refusals = ['bundle_unusable', 'standby_conflict', ...disk] as const
  app.put(
    '/standby',
    { config: { scope: 'admin', fails: refusals }, schema: start },
    async (request, reply) => {
      const { model } = request.body as StandbyBody
      await standby().start(model)
      request.log.info({ bundle: model }, 'the bundle stands by')
      reply.code(202)
      return replyOf(standby().status())
    },
  )

  const unready = ['standby_not_found', 'standby_not_level', 'index_unavailable', ...disk] as const
  app.post(
    '/standby/switch',
    {
      config: { scope: 'admin', fails: unready },
      schema: { ...schema, summary: 'Let the standby serve', ...ok },
    },
    async (request) => {
      await standby().switch(request.call)
      const status = standby().status()
      request.log.warn(
        { bundle: status.serving.name, fingerprint: status.serving.fingerprint },
        'the bundle serves now',
      )
      return replyOf(status)
    },
  )

  const removal = {
    ...schema,
    summary: 'End the standby',
    response: { 204: { type: 'null', description: 'Its encodings are gone' } },
  }
  const config = { scope: 'admin', fails: ['standby_not_found', ...disk] } as const
  app.delete('/standby', { config, schema: removal }, async (request, reply) => {
    await standby().end()
    request.log.info('no bundle stands by')
    return reply.code(204).send()
  })
  done()
}

function replyOf({
  serving,
  standby,
}: ReturnType<Upkeep['standby']['status']>): Static<typeof StandbyReply> {
  return {
    serving: { model: serving.name, fingerprint: serving.fingerprint },
    standby:
      standby === null
        ? null
        : {
            model: standby.name,
            fingerprint: standby.fingerprint,
            state: standby.state,
            items: standby.items,
            behind: standby.behind,
            problem: standby.problem,
          },
  }
}
