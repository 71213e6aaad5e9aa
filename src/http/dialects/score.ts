/** Scores of pairs, as vLLM has them: one query with each document, or pairs of two lists. */
import { Type, type Static } from 'typebox'
import { words } from '../schemas/fields.js'
import type { DialectRoutes } from './dialects.js'
import { FORMS, missing, rank, rankErrors, scorePairs } from './ranking.js'
import { Usage, usage } from './usage.js'
import { Warnings, warningsOf } from './warnings.js'

const Side = Type.Optional(Type.Unknown({ description: `${FORMS}; or a list of them` }))
const ScoreBody = Type.Object(
  {
    model: Type.Optional(
      Type.String({ description: 'any name; the reply has that of the bundle' }),
    ),
    ...{ text_1: Side, text_2: Side, data_1: Side, data_2: Side },
    ...{ queries: Side, documents: Side, items: Side },
  },
  {
    title: 'ScoreBody',
    description: 'an object with text_1 and text_2, data_1 and data_2, or queries and documents',
  },
)
type ScoreBody = Static<typeof ScoreBody>

const ScoreReply = Type.Object(
  {
    id: Type.String(),
    object: words('list'),
    created: Type.Integer(),
    model: Type.String(),
    data: Type.Array(
      Type.Object({ index: Type.Integer(), object: words('score'), score: Type.Number() }),
    ),
    usage: Usage,
    warnings: Warnings,
  },
  { title: 'ScoreReply', description: 'Scores in the order of the second list' },
)

export const scoreRoutes: DialectRoutes = (app, options) => {
  for (const path of ['/score', '/v1/score'])
    app.post(
      path,
      {
        config: { scope: 'read', errors: rankErrors },
        schema: {
          tags: ['clients'],
          summary: 'Score pairs, as vLLM does',
          body: ScoreBody,
          response: { 200: ScoreReply },
        },
      },
      async (request, reply) => {
        const [[firstName, first], [secondName, second]] = sidesOf(request.body)
        const [queries, documents] = [listOf(first), listOf(second)]
        const ranking =
          queries.length === 1
            ? await rank({ query: queries[0], documents }, options, request, reply)
            : await scorePairs([queries, documents], [firstName, secondName], options, request)
        const inOrder = ranking.ranked.toSorted((a, b) => a.index - b.index)
        return {
          ...{ id: request.id, object: 'list' as const, created: Math.floor(Date.now() / 1000) },
          model: options.retrieval.model.name,
          data: inOrder.map(({ index, relevance: score }) => ({
            ...{ index, object: 'score' as const, score },
          })),
          usage,
          ...warningsOf(ranking),
        }
      },
    )
}

/** The names of vLLM for the two sides, in every form that it takes. */
const SIDES = [
  ['text_1', 'text_2'],
  ['data_1', 'data_2'],
  ['queries', 'documents'],
  ['queries', 'items'],
] as const

/** @throws TandemError invalid_request */
function sidesOf(body: ScoreBody): readonly [[string, unknown], [string, unknown]] {
  const found = SIDES.find(([first, second]) => first in body && second in body)
  if (found === undefined) {
    const [first, second] = SIDES.find(([name]) => name in body) ?? SIDES[0]
    throw missing(first in body ? second : first)
  }
  const [first, second] = found
  return [
    [first, body[first]],
    [second, body[second]],
  ]
}

function listOf(side: unknown): readonly unknown[] {
  return Array.isArray(side) ? side : [side]
}
