/** POST /rerank: documents ordered by their relevance to a query. */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { inputErrors, readErrors } from '../plugins/documented-errors.js'
import { NoQuery } from '../schemas/fields.js'
import { RerankBody, RerankReply } from '../schemas/rerank.js'
import { InputReader, MAX_INTERACTIVE, type InputOptions } from '../wire/inputs.js'

export const rerankRoutes: FastifyPluginCallbackTypebox<InputOptions> = (app, options, done) => {
  const { retrieval } = options

  app.post(
    '/rerank',
    {
      config: {
        scope: 'read',
        errors: [
          'item_not_found',
          'not_supported',
          'documents_mixed',
          ...readErrors,
          ...inputErrors,
        ],
      },
      schema: {
        tags: ['rerank'],
        operationId: 'rerank',
        summary: 'Order documents by relevance',
        querystring: NoQuery,
        body: RerankBody,
        response: { 200: RerankReply },
      },
    },
    async (request, reply) => {
      const { query, documents, top_n: topN, language, return_documents: repeat } = request.body
      const reader = new InputReader(options, request)
      reader.checkCount(documents.length, 'documents')
      const [first, ...rest] = await Promise.all([
        reader.query(query, 'query'),
        ...documents.map((document, at) => reader.query(document, `documents[${at}]`)),
      ])
      const images = rest.filter((document) => 'image' in document).length
      const call = images > MAX_INTERACTIVE ? request.admission.asBulk() : request.call
      const ranking = await retrieval.rerank(first, rest, call, { language })
      const { model, orderedBy, ranked, notices, timings } = ranking
      const results = ranked.slice(0, topN).map(({ index, relevance, similarity, match }) => ({
        ...{ index, relevance_score: relevance, similarity, match },
        ...(repeat === true ? { document: repeated(documents[index]) } : {}),
      }))
      return {
        ...{ model: model.name, ordered_by: orderedBy, results, notices },
        timings: reply.timed(timings),
      }
    },
  )
  done()
}

/** The text or the id of a document; images are not sent back. */
function repeated(document: RerankBody['documents'][number] = {}): { text?: string; id?: string } {
  if (typeof document === 'string') return { text: document }
  if (document.text !== undefined) return { text: document.text }
  return document.id === undefined ? {} : { id: document.id }
}
