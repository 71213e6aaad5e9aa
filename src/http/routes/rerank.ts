/** POST /rerank: documents ordered by their relevance to a query. */
import type { FastifyPluginCallback } from 'fastify'
import { inputErrors, readErrors } from '../plugins/documented-errors.js'
import { NoQuery, RerankBody } from '../schemas/requests.js'
import { RerankReply } from '../schemas/fields.js'
import { limitBatch, MOST_INTERACTIVE, queryOf, type InputOptions } from '../wire/inputs.js'
import { Images } from '../wire/image-source.js'

export const rerankRoutes: FastifyPluginCallback<InputOptions> = (app, options, done) => {
  const { retrieval, limits, fetchImage } = options
  const schema = {
    tags: ['rerank'],
    summary: 'Order documents by relevance',
    querystring: NoQuery,
    body: RerankBody,
    response: { 200: RerankReply },
  }

  app.post(
    '/rerank',
    {
      config: {
        scope: 'read',
        errors: ['item_not_found', 'not_supported', ...readErrors, ...inputErrors],
      },
      schema,
    },
    async (request, reply) => {
      const { query, documents, top_n: topN, return_documents: repeat } = request.body as RerankBody
      limitBatch(documents.length, 'documents', limits)
      const images = new Images(fetchImage, limits, request.call?.signal)
      const [asked, ...given] = await Promise.all([
        queryOf(query, 'query', limits, images),
        ...documents.map((document, at) => queryOf(document, `documents[${at}]`, limits, images)),
      ])
      const encoded = given.filter((document) => 'image' in document)
      const call = encoded.length > MOST_INTERACTIVE ? reply.asBulk() : request.call
      const { model, ranked, timings } = await retrieval.rerank(asked, given, call)
      const results = ranked.slice(0, topN).map(({ index, relevance, similarity, match }) => {
        const document = repeat === true ? repeated(documents[index]) : undefined
        return {
          index,
          relevance_score: relevance,
          similarity,
          match,
          ...(document === undefined ? {} : { document }),
        }
      })
      return { model: model.name, results, timings: reply.timed(timings) }
    },
  )
  done()
}

/** The text or the id of a document; images are not sent back. */
function repeated(document: RerankBody['documents'][number] | undefined): {
  text?: string
  id?: string
} {
  if (typeof document === 'string') return { text: document }
  if (document?.text !== undefined) return { text: document.text }
  return document?.id === undefined ? {} : { id: document.id }
}
