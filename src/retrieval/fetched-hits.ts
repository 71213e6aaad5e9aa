/** What a search returns. */
import type { Payload } from '../collection/collection.js'
import type { Match } from '../model/models.js'
import { given } from './encode.js'
import type { Candidate } from './hits.js'

/** One answer of a search. Hits are ordered by score, best first. */
export interface Hit {
  id: string
  score: number
  similarity: number
  match: number | null
  payload: Payload | null
}

/** Candidates as hits in the order of their similarity, which is the one they have. */
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
    .map(({ id, payload, similarity }, at) => ({ id, payload, similarity, ...given(matches[at]) }))
    .sort((a, b) => b.logit - a.logit)
    .filter(({ match }) => match >= minMatch)
    .slice(0, k)
    .map(({ id, payload, similarity, match }) => ({ id, score: match, similarity, match, payload }))
}
