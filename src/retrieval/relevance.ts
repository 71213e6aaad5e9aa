/**
 * Scores documents of one kind against one query. A text and an image are matched by the fusion
 * encoder. Two texts or two images have no match; their relevance is the similarity of their
 * embeddings. Similarities of two texts are higher than those of a text and an image, so a list
 * with both kinds has no common order: a text about a cat would precede an image of the dog.
 */
import { TandemError } from '../errors.js'
import type { Call, EncodedText, Models, Pair } from '../model/models.js'
import { cosine } from '../vector-index/normalise.js'
import type { Encoded, Query } from './encode.js'
import { tokensOf, type Tokenised } from './image-tokens.js'
import { timed, type Timed } from './stage-clock.js'

export interface Relevance {
  /** Position of the document in the request. */
  index: number
  /** In [0, 1]: the match, or the similarity, cut at 0, if no document has a match. */
  relevance: number
  similarity: number
  match: number | null
  /** Orders documents of the same relevance: the argument of the sigmoid does not saturate. */
  logit: number
}

/** @throws TandemError documents_mixed if there are texts and images */
export function checkOneKind(documents: readonly Query[]): void {
  const text = documents.findIndex((document) => 'text' in document)
  const image = documents.findIndex((document) => !('text' in document))
  if (text !== -1 && image !== -1) throw new TandemError('documents_mixed', { text, image })
}

/** Number of documents that the fusion encoder compares with the query. */
export function pairsOf(query: Query, documents: readonly Query[]): number {
  return documents.filter((document) => 'text' in document !== 'text' in query).length
}

/**
 * Relevance of each document, best first.
 *
 * @param understood - whether the bundle understands the texts of query and document; the others
 *   have no match, and are last in a list that is ordered by match
 */
export async function relevanceOf(
  models: Models,
  query: Encoded,
  documents: readonly Encoded[],
  understood: (index: number) => boolean,
  call?: Call,
): Promise<Timed<{ ranked: Relevance[]; orderedBy: 'match' | 'similarity' }>> {
  const texts: EncodedText[] = []
  const images: Tokenised[] = []
  const rowOf = (encoded: Encoded): number =>
    (encoded.kind === 'text' ? texts.push(encoded.text) : images.push(encoded)) - 1
  const queryRow = rowOf(query)
  const similarities = documents.map(({ embedding }) => cosine(query.embedding, embedding))
  const paired: number[] = []
  const pairs: Pair[] = []
  documents.forEach((document, index) => {
    if (document.kind === query.kind || !understood(index)) return
    const row = rowOf(document)
    const [text, image] = query.kind === 'text' ? [queryRow, row] : [row, queryRow]
    paired.push(index)
    pairs.push({ text, image, similarity: similarities[index] ?? 0 })
  })
  const { value, ...time } = await timed(
    'rerank',
    async () =>
      pairs.length > 0
        ? models.match(texts, await tokensOf(models, images, call), pairs, call)
        : { matches: [], timings: {} },
    (matched) => matched.timings,
  )
  const matchOf = new Map(paired.map((index, at) => [index, value.matches[at]]))
  const ranked = similarities.map((similarity, index): Relevance => {
    const matched = matchOf.get(index)
    if (matched !== undefined) return { index, relevance: matched.match, similarity, ...matched }
    const [relevance, logit] =
      pairs.length > 0 ? [0, -Infinity] : [Math.min(1, Math.max(0, similarity)), similarity]
    return { index, relevance, similarity, match: null, logit }
  })
  ranked.sort((a, b) => b.relevance - a.relevance || compare(b.logit, a.logit) || a.index - b.index)
  const orderedBy = pairs.length > 0 ? 'match' : 'similarity'
  return { value: { ranked, orderedBy }, ...time }
}

/** Infinities are equal to themselves. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a - b
}
