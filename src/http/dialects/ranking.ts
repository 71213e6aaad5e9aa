/** Queries and documents of every form, ranked. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { TandemError } from '../../errors.js'
import type { Call, Query, Relevance } from '../../retrieval/retrieval.js'
import { inputErrors, readErrors } from '../plugins/documented-errors.js'
import { InputReader, MAX_INTERACTIVE } from '../wire/inputs.js'
import { contentOf, contentsOf, type Content } from './content.js'
import type { DialectOptions } from './dialects.js'

/** The forms of a query or a document, for descriptions. */
export const FORMS = 'a text, {text}, {image}, both, {id}, {content: [parts]} or [parts]'

export const rankErrors = [
  'item_not_found',
  'not_supported',
  'documents_mixed',
  ...readErrors,
  ...inputErrors,
] as const

/** Documents ordered for a query. */
export interface Ranking {
  model: string
  orderedBy: 'match' | 'similarity'
  /** Best first. */
  ranked: readonly Relevance[]
  documents: readonly Content[]
  /** About texts that the bundle does not understand. */
  notices: readonly { detail: string }[]
}

/**
 * Ranks documents of any form.
 *
 * @throws TandemError as POST /rerank
 */
export async function rank(
  { query, documents }: { query: unknown; documents: unknown },
  options: DialectOptions,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<Ranking> {
  if (documents === undefined) throw missing('documents')
  const reader = new InputReader(options, request)
  const contents = contentsOf(documents, 'documents')
  reader.checkCount(contents.length, 'documents')
  const asked = contentOf(query, 'query')
  const preferText = asked.text === undefined
  const [first, ...rest] = await Promise.all([
    queryOf(asked, 'query', reader),
    ...contents.map((content, at) => documentOf(content, preferText, `documents[${at}]`, reader)),
  ])
  const call = callFor(rest, request)
  const { model, timings, ...ranking } = await options.retrieval.rerank(first, rest, call)
  reply.timed(timings)
  return { ...ranking, model: model.name, documents: contents }
}

/**
 * The relevance of each document to the query at the same position, with one meaning for all pairs:
 * where some have a match, a pair without one has the relevance 0, as in a list of one query.
 *
 * @param names - of the two lists, in errors
 * @throws TandemError as POST /rerank; invalid_request for lists of different lengths,
 *   and if some pairs are a text and an image and others are not
 */
export async function scorePairs(
  [queries, documents]: readonly [readonly unknown[], readonly unknown[]],
  names: readonly [string, string],
  options: DialectOptions,
  request: FastifyRequest,
): Promise<Ranking> {
  const reader = new InputReader(options, request)
  reader.checkCount(queries.length, names[0])
  if (queries.length === 0)
    throw new TandemError('invalid_request', `${names[0]} is an empty list; expected at least one.`)
  if (queries.length !== documents.length)
    throw new TandemError(
      'invalid_request',
      `${names[0]} has ${queries.length} entries and ${names[1]} ${documents.length}; expected as many, or one and a list.`,
    )
  const contents = queries.map((query, at) => {
    const asked = contentOf(query, `${names[0]}[${at}]`)
    return [asked, contentOf(documents[at], `${names[1]}[${at}]`)] as const
  })
  const pairs = await Promise.all(
    contents.map(([asked, content], at) =>
      Promise.all([
        queryOf(asked, `${names[0]}[${at}]`, reader),
        documentOf(content, asked.text === undefined, `${names[1]}[${at}]`, reader),
      ]),
    ),
  )
  checkOneKindOfPairs(pairs, names)
  const call = callFor(pairs.flat(), request)
  const scored = await Promise.all(
    pairs.map(([query, document], at) =>
      options.retrieval.rerank(query, [document], call, {
        nameOf: (side) => `${names[side] ?? ''}[${at}]`,
      }),
    ),
  )
  const isMatched = scored.some(({ orderedBy }) => orderedBy === 'match')
  return {
    model: options.retrieval.model.name,
    orderedBy: isMatched ? 'match' : 'similarity',
    ranked: scored.flatMap(({ ranked }, index) =>
      ranked.map((score) => ({
        ...{ ...score, index },
        relevance: isMatched ? (score.match ?? 0) : score.relevance,
      })),
    ),
    documents: contents.map(([, content]) => content),
    notices: scored.flatMap(({ notices }, at) =>
      notices.map(({ detail }) => ({ detail: `${pairName(names, at)}: ${detail}` })),
    ),
  }
}

function pairName([first, second]: readonly [string, string], at: number): string {
  return `${first}[${at}] with ${second}[${at}]`
}

function checkOneKindOfPairs(
  pairs: readonly (readonly [Query, Query])[],
  names: readonly [string, string],
): void {
  const canMatch = pairs.map(([query, document]) => 'text' in query !== 'text' in document)
  const [matched, other] = [canMatch.indexOf(true), canMatch.indexOf(false)]
  if (matched === -1 || other === -1) return
  throw new TandemError(
    'invalid_request',
    `${pairName(names, matched)} is a text and an image, and ${pairName(names, other)} two texts or two images; expected pairs of one kind: scores of the two kinds cannot be compared.`,
  )
}

/** The error for a field that is absent. */
export function missing(name: string): TandemError {
  return new TandemError('invalid_request', `${name} is missing; expected ${FORMS}.`)
}

/** More images than an interactive request has make it bulk. */
function callFor(documents: readonly Query[], request: FastifyRequest): Call | undefined {
  const images = documents.filter((document) => 'image' in document).length
  return images > MAX_INTERACTIVE ? request.admission.asBulk() : request.call
}

async function queryOf(content: Content, name: string, reader: InputReader): Promise<Query> {
  if (content.text !== undefined && content.images.length > 0)
    throw new TandemError(
      'invalid_request',
      `${name} is a text and an image; expected one of them.`,
    )
  return documentOf(content, true, name, reader)
}

/** @param preferText - compares the text of a document that has an image too */
async function documentOf(
  { text, images, id }: Content,
  preferText: boolean,
  name: string,
  reader: InputReader,
): Promise<Query> {
  if (text !== undefined && (preferText || images.length === 0))
    return { text: reader.text(text, name) }
  const [image] = images
  if (image === undefined) return { id: id ?? '' }
  if (images.length === 1) return { image: await reader.image(image, name) }
  throw new TandemError('invalid_request', `${name} has ${images.length} images; expected one.`)
}
