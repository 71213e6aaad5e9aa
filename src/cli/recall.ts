/** recall@k from ranks: the standard retrieval protocol's figures. */

/** Shares in per cent of queries with a correct item among the first 1, 5 and 10. */
export interface RecallFigures {
  r1: number
  r5: number
  r10: number
}

/** 0-based rank of the first of `order` that is correct, or Infinity where none is. */
export function rankOf<Entry>(
  order: readonly Entry[],
  isCorrect: (entry: Entry) => boolean,
): number {
  const rank = order.findIndex(isCorrect)
  return rank === -1 ? Infinity : rank
}

/** recall@1, @5 and @10 over the ranks of all queries (0-based; Infinity: not found). */
export function recallFigures(ranks: readonly number[]): RecallFigures {
  const recallAtK = (k: number): number =>
    (100 * ranks.filter((rank) => rank < k).length) / ranks.length
  return { r1: recallAtK(1), r5: recallAtK(5), r10: recallAtK(10) }
}

/**
 * Positions of `candidates` ordered by their similarity to `query`, best first. All embeddings are
 * L2-normalised, so the dot product is the cosine.
 */
export function orderBySimilarity(
  query: Float32Array,
  candidates: readonly Float32Array[],
): number[] {
  const similarities = Float64Array.from(candidates, (candidate) => {
    let sum = 0
    for (let at = 0; at < query.length; at += 1)
      sum += (query[at] as number) * (candidate[at] as number)
    return sum
  })
  return Array.from(candidates.keys()).sort(
    (a, b) => (similarities[b] as number) - (similarities[a] as number),
  )
}
