/**
 * The candidates that are worth reranking. What comes out of the fusion encoder moves a candidate
 * by a bounded way against the others; one that begins further below the k-th than that never comes
 * among the first k. The bundle says how far that is, as training learnt it.
 */

/**
 * Those of `candidates`, best first, whose similarity is at most `margin` below that of the k-th:
 * never fewer than k where there are as many. All of them where the bundle knows no margin.
 */
export function contendersOf<Candidate extends { similarity: number }>(
  candidates: readonly Candidate[],
  k: number,
  margin: number | undefined,
): readonly Candidate[] {
  const last = candidates[k - 1]
  if (margin === undefined || last === undefined) return candidates
  return candidates.filter(({ similarity }, at) => at < k || similarity >= last.similarity - margin)
}
