/** /reembedding: prepares another bundle while this one serves, then promotes it. */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { TandemError } from '../../errors.js'
import type { Reembedder, Retrieval } from '../../retrieval/retrieval.js'
import { empty, NoQuery } from '../schemas/fields.js'
import { ReembeddingBody, ReembeddingReply } from '../schemas/reembedding.js'

const NOT_SUPPORTED =
  'Only an embedded collection can prepare a second bundle. Index the images with the other bundle into a second ' +
  'collection of the engine (MILVUS_COLLECTION), and start the services with both.'

/** A body with the name of a bundle, and no image, is smaller. */
const MAX_BODY_BYTES = 65_536

export const reembeddingRoutes: FastifyPluginCallbackTypebox<{ retrieval: Retrieval }> = (
  app,
  { retrieval },
  done,
) => {
  const reembedder = (): Reembedder => {
    if (retrieval.maintenance !== null) return retrieval.maintenance.reembedder
    throw new TandemError('not_supported', NOT_SUPPORTED)
  }
  const status = (): ReembeddingReply => replyOf(reembedder().status())
  const schema = { tags: ['reembedding'], querystring: NoQuery }
  const disk = ['storage_full', 'storage_read_only', 'not_supported'] as const

  app.get(
    '/reembedding',
    {
      config: { scope: 'admin', errors: ['not_supported'] },
      schema: {
        ...schema,
        operationId: 'getReembedding',
        summary: 'The bundle that serves, and the one that is being prepared',
        response: { 200: ReembeddingReply },
      },
    },
    status,
  )

  app.put(
    '/reembedding',
    {
      bodyLimit: MAX_BODY_BYTES,
      config: { scope: 'admin', errors: ['bundle_unusable', 'reembedding_conflict', ...disk] },
      schema: {
        ...schema,
        operationId: 'startReembedding',
        summary: 'Start to prepare a bundle',
        body: ReembeddingBody,
        response: { 202: ReembeddingReply },
      },
    },
    async (request, reply) => {
      const { model } = request.body
      await reembedder().start(model)
      request.log.info({ bundle: model }, 'the bundle is being prepared')
      return reply.code(202).send(status())
    },
  )

  app.post(
    '/reembedding/promote',
    {
      config: {
        scope: 'admin',
        errors: ['reembedding_not_found', 'reembedding_not_ready', 'index_unavailable', ...disk],
      },
      schema: {
        ...schema,
        operationId: 'promoteBundle',
        summary: 'Let the prepared bundle serve',
        response: { 200: ReembeddingReply },
      },
    },
    async (request) => {
      await reembedder().promote(request.call)
      const { serving, reembedding } = status()
      request.log.warn(
        { bundle: serving.model, fingerprint: serving.fingerprint },
        'the bundle serves now',
      )
      return { serving, reembedding }
    },
  )

  app.delete(
    '/reembedding',
    {
      config: { scope: 'admin', errors: ['reembedding_not_found', ...disk] },
      schema: {
        ...schema,
        operationId: 'endReembedding',
        summary: 'Drop the prepared bundle',
        response: { 204: empty('Its encodings are removed') },
      },
    },
    async (request, reply) => {
      await reembedder().end()
      request.log.info('the prepared bundle was dropped')
      return reply.code(204).send()
    },
  )
  done()
}

function replyOf({ serving, reembedding }: ReturnType<Reembedder['status']>): ReembeddingReply {
  return { serving: withModel(serving), reembedding: reembedding && withModel(reembedding) }
}

/** The API calls the name of a bundle's folder `model`. */
function withModel<Bundle extends { name: string | null }>({ name, ...rest }: Bundle) {
  return { model: name, ...rest }
}
