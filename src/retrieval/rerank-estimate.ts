/** Weight of the past searches in the average: about twenty searches count. */
const MEMORY = 0.95

/**
 * Estimates how many pairs a search will match, before its candidates are known. The margin of the
 * bundle excludes some candidates after the k-th; earlier searches tell which share.
 */
export class RerankEstimate {
  /**
   * Share of the candidates after the k-th that are matched. Starts with all of them: a high
   * estimate may refuse a search that could be answered, a low one lets a search time out.
   */
  #share = 1

  pairs({ k, candidates }: { k: number; candidates: number }): number {
    const certain = Math.min(k, candidates)
    return certain + Math.ceil((candidates - certain) * this.#share)
  }

  /** Learns from a search that matched `pairs` of its candidates. */
  observe({ k, candidates }: { k: number; candidates: number }, pairs: number): void {
    if (candidates <= k) return
    const share = Math.max(0, pairs - k) / (candidates - k)
    this.#share = this.#share * MEMORY + share * (1 - MEMORY)
  }
}
