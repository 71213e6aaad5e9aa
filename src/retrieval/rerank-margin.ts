/**
 * Which candidates are worth reranking. The fusion encoder moves a candidate by a bounded amount
 * against the others; a candidate further than that below the k-th cannot reach the first k. The
 * bundle has that bound, the margin, as training measured it.
 */

/**
 * The candidates with a similarity at most `margin` below that of the k-th.
 *
 * @param candidates - best first
 * @param margin - undefined if the bundle has none; then all candidates are returned
 * @returns at least k candidates, if there are as many
 */
export function withinMargin<Candidate extends { similarity: number }>(
  candidates: readonly Candidate[],
  k: number,
  margin: number | undefined,
): readonly Candidate[] {
  const kth = candidates[k - 1]
  if (margin === undefined || kth === undefined) return candidates
  return candidates.filter(({ similarity }, at) => at < k || similarity >= kth.similarity - margin)
}
