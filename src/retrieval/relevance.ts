/**
 * Scores documents against one query. Text and image meet in the fusion encoder; two of a kind have
 * no match, so their relevance is the similarity of their embeddings.
 */
import type { Call, EncodedText, Models, Pair } from '../model/models.js'
import type { Encoded, Query } from './encode.js'
import type { Timings } from './stage-clock.js'

export interface Relevance {
  /** Position of the document in the request. */
  index: number
  /** From 0 to 1: the match, or the similarity cut at 0 where there is no match. */
  relevance: number
  similarity: number
  match: number | null
  /**
   * What orders documents of the same relevance: the argument of the sigmoid, which does not
   * saturate.
   */
  logit: number
}

/** The cosine of two L2-normalised embeddings. */
function similarityOf(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, at) => sum + value * (b[at] ?? 0), 0)
}

/** How many of the documents `relevanceOf` will have the fusion encoder compare with the query. */
export function pairsOf(query: Query, documents: readonly Query[]): number {
  return documents.filter((document) => 'text' in document !== 'text' in query).length
}

/** Relevance of each document, best first. */
export async function relevanceOf(
  models: Models,
  query: Encoded,
  documents: readonly Encoded[],
  call?: Call,
): Promise<{ ranked: Relevance[]; timings: Timings }> {
  const texts: EncodedText[] = []
  const images: Int8Array[] = []
  const place = (one: Encoded): number =>
    (one.kind === 'text' ? texts.push(one.text) : images.push(one.imageTokens)) - 1
  const queryPlace = place(query)
  const similarities = documents.map((document) =>
    similarityOf(query.embedding, document.embedding),
  )
  const paired: number[] = []
  const pairs: Pair[] = []
  documents.forEach((document, index) => {
    if (document.kind === query.kind) return
    const documentPlace = place(document)
    const [text, image] =
      query.kind === 'text' ? [queryPlace, documentPlace] : [documentPlace, queryPlace]
    paired.push(index)
    pairs.push({ text, image, similarity: similarities[index] ?? 0 })
  })
  const { matches, timings } =
    pairs.length > 0 ? await models.match(texts, images, pairs, call) : { matches: [], timings: {} }
  const matchOf = new Map(paired.map((index, at) => [index, matches[at]]))
  const ranked = similarities.map((similarity, index): Relevance => {
    const found = matchOf.get(index)
    if (found !== undefined)
      return { index, relevance: found.match, similarity, match: found.match, logit: found.logit }
    return {
      index,
      relevance: Math.min(1, Math.max(0, similarity)),
      similarity,
      match: null,
      logit: similarity,
    }
  })
  ranked.sort((a, b) => b.relevance - a.relevance || b.logit - a.logit || a.index - b.index)
  return { ranked, timings }
}
