/** Stored data of recalled items, and the hits that a search returns. */
import type { Items } from '../collection/collection.js'
import type { Neighbour } from '../vector-index/vector-index.js'
import type { Payload } from '../item-store/item-store.js'
import type { Call, Match } from '../model/models.js'
import { present } from './encode.js'
import type { Tokenised } from './image-tokens.js'

/** A recalled item that is stored. Its image tokens are empty if they were not fetched. */
export interface Candidate extends Neighbour, Tokenised {
  payload: Payload | null
}

/** One result of a search; hits are ordered by score, best first. */
export interface Hit {
  id: string
  score: number
  similarity: number
  match: number | null
  payload: Payload | null
}

export interface FetchOptions {
  /**
   * Whether to fetch tokens, because most bytes of a stored item are tokens; or the image, of which
   * they are computed.
   */
  tokens: boolean | 'image'
  /** Tests the payload; items that fail are left out. */
  passes: (payload: Payload | null) => boolean
  call: Call | undefined
}

const NO_TOKENS = new Int8Array()

/**
 * Keeps the order. Leaves out items that were removed after the recall, or replaced so that the
 * payload does not pass any more.
 */
export async function fetchCandidates(
  items: Items,
  recalled: readonly Neighbour[],
  { tokens, passes, call }: FetchOptions,
): Promise<Candidate[]> {
  const ids = recalled.map(({ id }) => id)
  const stored: (Pick<Candidate, 'payload' | 'imageTokens'> | undefined)[] =
    tokens === true
      ? await items.getMany(ids, call)
      : (await items.payloads(ids, call)).map((payload) =>
          payload === undefined ? undefined : { payload, imageTokens: NO_TOKENS },
        )
  const images =
    tokens === 'image' ? await Promise.all(ids.map((id) => items.image(id, call))) : null
  return recalled.flatMap(({ id, similarity }, at) => {
    const item = stored[at]
    if (item === undefined || !passes(item.payload)) return []
    const found = { id, similarity, payload: item.payload, imageTokens: item.imageTokens }
    if (images === null) return [found]
    const image = images[at]
    return image === undefined ? [] : [{ ...found, image }]
  })
}

/** The candidates as hits, in their order. */
export function bySimilarity(candidates: readonly Candidate[]): Hit[] {
  return candidates.map(({ id, similarity, payload }) => ({
    id,
    score: similarity,
    similarity,
    match: null,
    payload,
  }))
}

/** The best `k` candidates by match, without those below `minMatch`. */
export function byMatch(
  candidates: readonly Candidate[],
  matches: readonly Match[],
  { k, minMatch }: { k: number; minMatch: number },
): Hit[] {
  return candidates
    .map(({ id, payload, similarity }, at) => {
      const { logit, match } = present(matches[at])
      return { id, payload, similarity, logit, match }
    })
    .sort((a, b) => b.logit - a.logit)
    .filter(({ match }) => match >= minMatch)
    .slice(0, k)
    .map(({ id, payload, similarity, match }) => ({ id, score: match, similarity, match, payload }))
}
