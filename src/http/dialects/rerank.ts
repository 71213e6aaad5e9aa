/** Rerank as Cohere, Jina, vLLM, infinity and Voyage have it, and the scores of vLLM. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type, type Static } from 'typebox'
import { checked, compileExact } from '../plugins/validation.js'
import { Match, words } from '../schemas/fields.js'
import { fieldsOf, isObject } from './bodies.js'
import type { Dialect, DialectOptions, DialectRoutes } from './dialects.js'
import { errorAndMessage } from './error-members.js'
import { FORMS, rank, rankErrors } from './ranking.js'
import { scoreRoutes } from './score.js'
import { Usage, usage } from './usage.js'
import { Warnings, warningsOf } from './warnings.js'

const Count = Type.Integer({ minimum: 0, description: 'a whole number; 0 returns all results' })
const Flag = Type.Boolean({ description: 'true or false' })

const RerankBody = Type.Object(
  {
    model: Type.Optional(
      Type.String({ description: 'any name; the reply has that of the bundle' }),
    ),
    query: Type.Unknown({ description: FORMS }),
    documents: Type.Optional(Type.Unknown({ description: `a list of ${FORMS}` })),
    texts: Type.Optional(Type.Unknown({ description: 'documents, as TEI calls them' })),
    top_n: Type.Optional(Count),
    top_k: Type.Optional(Count),
    return_documents: Type.Optional(Flag),
    return_text: Type.Optional(Flag),
    raw_scores: Type.Optional(Flag),
    rank_fields: Type.Optional(
      Type.Array(Type.Literal('text'), { description: 'only "text": documents are read by it' }),
    ),
  },
  { title: 'ClientRerankBody', description: 'an object with query and documents' },
)
export type RerankBody = Static<typeof RerankBody>
const validate = compileExact<RerankBody>(RerankBody)

const RerankReply = Type.Object(
  {
    id: Type.String(),
    object: words('rerank'),
    created: Type.Integer(),
    model: Type.String(),
    ordered_by: words('match', 'similarity'),
    results: Type.Array(
      Type.Object({
        index: Type.Integer(),
        relevance_score: Type.Number(),
        similarity: Type.Number(),
        match: Match,
        document: Type.Optional(
          Type.Unsafe<{ text: string } | string>({
            anyOf: [
              { type: 'object', properties: { text: { type: 'string' } }, required: ['text'] },
              { type: 'string' },
            ],
          }),
        ),
      }),
    ),
    data: Type.Array(Type.Object({ index: Type.Integer(), relevance_score: Type.Number() }), {
      description: 'results, for Voyage',
    }),
    usage: Usage,
    meta: Type.Object({
      api_version: Type.Object({ version: Type.String() }),
      billed_units: Type.Object({ search_units: Type.Integer() }),
      warnings: Warnings,
    }),
  },
  { title: 'ClientRerankReply', description: 'Documents, most relevant first' },
)

const routes: DialectRoutes = (app, options) => {
  for (const path of ['/v1/rerank', '/v2/rerank'])
    app.post(
      path,
      {
        config: {
          scope: 'read',
          errors: rankErrors,
        },
        schema: {
          tags: ['clients'],
          summary: 'Order documents by relevance, as Cohere, Jina and vLLM do',
          body: RerankBody,
          response: { 200: RerankReply },
        },
      },
      (request, reply) => answer(request.body, options, request, reply),
    )
  scoreRoutes(app, options)
}

async function answer(
  body: RerankBody,
  options: DialectOptions,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Static<typeof RerankReply>> {
  const { query, documents = body.texts, raw_scores: raw } = body
  const { url = '' } = request.routeOptions
  const ranking = await rank({ query, documents }, options, request, reply)
  const { model, orderedBy } = ranking
  // `top_n` is 0 for all.
  const ranked = ranking.ranked.slice(0, body.top_n || body.top_k || undefined)
  const scores = ranked.map(({ index, relevance, logit }) => ({
    index,
    relevance_score: raw === true ? logit : relevance,
  }))
  const results = ranked.map(({ index, similarity, match }, at) => ({
    ...(scores[at] as (typeof scores)[number]),
    ...{ similarity, match },
    ...repeated(ranking.documents[index]?.text, body, url),
  }))
  const version = url.startsWith('/v1/') ? '1' : '2'
  return {
    ...{ id: request.id, object: 'rerank', created: Math.floor(Date.now() / 1000), model },
    ...{ ordered_by: orderedBy, results, data: scores, usage },
    meta: {
      ...{ api_version: { version }, billed_units: { search_units: 0 } },
      ...warningsOf(ranking),
    },
  }
}

/**
 * The text of a document, as an object by default. At /rerank infinity's client, which alone sends
 * raw_scores, takes a string on request. Others get none there: LiteLLM sends one body for infinity
 * and for vLLM, and reads a string for the one and an object for the other.
 */
function repeated(
  text: string | undefined,
  { raw_scores: raw, return_documents: wanted }: RerankBody,
  url: string,
): { document?: { text: string } | string } {
  if (text === undefined || wanted === false) return {}
  if (url !== '/rerank') return { document: { text } }
  return raw !== undefined && wanted === true ? { document: text } : {}
}

export const dialect: Dialect = {
  routes,
  shared: [
    {
      path: '/rerank',
      // infinity, vLLM, Jina and LiteLLM name a model; no body of our own does.
      recognises: ({ body }) =>
        isObject(body) && ('model' in body || 'raw_scores' in body) && !('texts' in body),
      answer: async (request, reply, options) =>
        answer(checked(validate, fieldsOf(request), 'field'), options, request, reply),
    },
  ],
  errorMembers: errorAndMessage,
}
