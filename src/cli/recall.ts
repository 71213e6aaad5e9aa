/** recall@k of the standard retrieval protocol, from ranks. */

import { cosine } from '../vector-index/normalise.js'

/** Per cent of queries with a correct item among the first 1, 5 and 10. */
export interface RecallFigures {
  r1: number
  r5: number
  r10: number
}

/** 0-based rank of the first correct entry; Infinity if none is correct. */
export function rankOf<Entry>(
  order: readonly Entry[],
  isCorrect: (entry: Entry) => boolean,
): number {
  const rank = order.findIndex(isCorrect)
  return rank === -1 ? Infinity : rank
}

/** @param ranks - of all queries, from `rankOf` */
export function recallFigures(ranks: readonly number[]): RecallFigures {
  const recallAtK = (k: number): number =>
    (100 * ranks.filter((rank) => rank < k).length) / ranks.length
  return { r1: recallAtK(1), r5: recallAtK(5), r10: recallAtK(10) }
}

/** Indices of `candidates` by their cosine with `query`, best first. */
export function orderBySimilarity(
  query: Float32Array,
  candidates: readonly Float32Array[],
): number[] {
  const similarities = candidates.map((candidate) => cosine(query, candidate))
  return Array.from(candidates.keys()).sort(
    (a, b) => (similarities[b] as number) - (similarities[a] as number),
  )
}
