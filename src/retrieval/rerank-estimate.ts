/**
 * How many pairs a search will have matched, told before its candidates are known: behind the k-th
 * the margin of the bundle leaves a share of them, which follows from the searches before it.
 */

/** What one search changes the share by: the last twenty or so count. */
const MEMORY = 0.95

export class ExpectedPairs {
  /**
   * Of the candidates behind the k-th. All, until a search has told: too many refuse what could
   * have been answered.
   */
  #share = 1

  of({ k, candidates }: { k: number; candidates: number }): number {
    const sure = Math.min(k, candidates)
    return sure + Math.ceil((candidates - sure) * this.#share)
  }

  /** Takes note of a search that matched `pairs` of so many candidates. */
  observe({ k, candidates }: { k: number; candidates: number }, pairs: number): void {
    if (candidates <= k) return
    const share = Math.max(0, pairs - k) / (candidates - k)
    this.#share = this.#share * MEMORY + share * (1 - MEMORY)
  }
}
