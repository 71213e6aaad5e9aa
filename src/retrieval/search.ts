/**
 * A search: encode the query, recall its nearest items, fetch their stored data, rerank them with
 * the fusion encoder, order the hits. Each step takes values and returns a value with its time.
 */
import type { Items, Lease } from '../collection/collection.js'
import type { Neighbour } from '../vector-index/vector-index.js'
import { testOf } from '../filter/matches.js'
import type { Call, EncodedText, Match, ModelInfo, Models } from '../model/models.js'
import { encodeAll, present, type Encoded, type Query } from './encode.js'
import { tokensOf } from './image-tokens.js'
import { byMatch, bySimilarity, fetchCandidates, type Candidate, type Hit } from './hits.js'
import type { SearchPlan } from './plan.js'
import { findingOf, noticeOfQuery, type Notice } from './notices.js'
import { withinMargin } from './rerank-margin.js'
import { StageClock, timed, type Timed, type Timings } from './stage-clock.js'

export interface SearchResult {
  hits: Hit[]
  /** Why there is no match, if the bundle does not understand the text. */
  notices: Notice[]
  /** The one that read the text; null for another query, and where the bundle has only one. */
  textEncoder: ModelInfo['textEncoders'][number] | null
  timings: Timings
  /** Number of items recalled, and of those that were reranked. */
  recalled: number
  reranked: number
}

/**
 * @param pairsAhead - estimate of the pairs to rerank, so that an overloaded model refuses early
 * @returns null if recalled items are gone because another bundle serves by now: search again with
 *   that one
 */
export async function search(
  lease: Lease,
  query: Query,
  plan: SearchPlan,
  pairsAhead: number,
  call?: Call,
): Promise<SearchResult | null> {
  const { models, items } = lease
  const clock = new StageClock(call?.onStage)
  const encoded = clock.take(await encode(lease, query, plan, { ...call, pairsAhead }))
  const finding = findingOf(models.info, query, encoded, plan.language)
  const followed = finding === null ? plan : { ...plan, rerank: false }
  const recalled = clock.take(await recall(items, query, encoded, followed, call))
  const candidates = clock.take(await fetch(lease, recalled, followed, call))
  if (candidates === null) return null
  const text = followed.rerank && encoded.kind === 'text' ? encoded.text : null
  const matches =
    text && candidates.length > 0 ? clock.take(await rerank(models, text, candidates, call)) : null
  return {
    hits: order(candidates, matches, plan),
    notices: finding === null ? [] : [noticeOfQuery(models.info, finding)],
    textEncoder: encoderOf(models.info, encoded),
    timings: clock.read(),
    recalled: recalled.length,
    reranked: matches?.length ?? 0,
  }
}

/** A stored item is not encoded again. Only reranking needs the tokens of a text. */
async function encode(
  lease: Lease,
  query: Query,
  { rerank, language }: SearchPlan,
  call: Call,
): Promise<Timed<Encoded>> {
  const options = { ...call, language, embeddingOnly: !rerank }
  const { value, ...time } = await encodeAll(lease, [query], options)
  return { value: present(value[0]), ...time }
}

function encoderOf({ textEncoders }: ModelInfo, encoded: Encoded): SearchResult['textEncoder'] {
  if (encoded.kind !== 'text' || textEncoders.length === 1) return null
  return textEncoders[encoded.text.encoder] ?? null
}

/** The nearest items that pass the filter, best first, without the item that is the query. */
function recall(
  items: Items,
  query: Query,
  { embedding }: Encoded,
  { k, candidates, rerank, filter }: SearchPlan,
  call: Call | undefined,
): Promise<Timed<Neighbour[]>> {
  return timed('recall', async () => {
    const self = 'id' in query ? query.id : undefined
    const depth = self === undefined ? candidates : candidates + 1
    const nearest = await items.recall(embedding, depth, { ...call, filter })
    return nearest.filter(({ id }) => id !== self).slice(0, rerank ? candidates : k)
  })
}

/**
 * Stored data of the items that may become hits. When one of these is gone, items further down come
 * within the margin of the k-th.
 *
 * @returns null if an item is gone and another bundle serves by now: only that one encodes items
 *   that were replaced since
 */
function fetch(
  lease: Lease,
  recalled: readonly Neighbour[],
  { k, rerank, filter }: SearchPlan,
  call: Call | undefined,
): Promise<Timed<readonly Candidate[] | null>> {
  const { models, items } = lease
  const margin = rerank ? models.info.rerank.margin : undefined
  const passes = filter === undefined ? () => true : testOf(filter)
  const wanted = models.encodeTokens === undefined ? true : 'image'
  const options = { tokens: rerank ? wanted : false, passes, call } as const
  return timed('fetch', async () => {
    const near = withinMargin(recalled, k, margin)
    const candidates = await fetchCandidates(items, near, options)
    if (candidates.length === near.length) return candidates
    if (lease.isOutdated) return null
    if (near.length === recalled.length) return candidates
    return withinMargin(await fetchCandidates(items, recalled, options), k, margin)
  })
}

/** Match of the text with each candidate, in their order. */
async function rerank(
  models: Models,
  text: EncodedText,
  candidates: readonly Candidate[],
  call: Call | undefined,
): Promise<Timed<Match[]>> {
  const pairs = candidates.map(({ similarity }, image) => ({ text: 0, image, similarity }))
  const { value, ...time } = await timed(
    'rerank',
    async () => models.match([text], await tokensOf(models, candidates, call), pairs, call),
    (matched) => matched.timings,
  )
  return { value: value.matches, ...time }
}

/** Hits by match, or by similarity if there was no reranking: then none reaches a lowest match. */
function order(
  candidates: readonly Candidate[],
  matches: readonly Match[] | null,
  plan: SearchPlan,
): Hit[] {
  if (matches !== null) return byMatch(candidates, matches, plan)
  return plan.minMatch > 0 ? [] : bySimilarity(candidates)
}
