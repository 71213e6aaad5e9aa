/**
 * How widely the graph is searched (ef) so that it finds the share of the exact nearest that is wanted. It begins with what
 * was enough for embeddings of photos and captions, and goes by what samples of the searches have been found to miss.
 */

/** Enough for .99 of the nearest among a million: bench/index-size. */
const LEAST = 40
const FOR_EACH = 1.2
/** Neighbours that a judgement goes by: of a share of .99 it then knows the missing hundredth to within a quarter. */
const EVIDENCE = 2000
const WIDER = 1.25
const NARROWER = 0.95
const WIDEST = 16
const NARROWEST = 0.5

export class Beam {
  readonly #target: number
  #effort = 1
  #found = 0
  #missed = 0
  /** Share that was found, as it was judged last. */
  #recall: number | null = null

  /** @param target - share of the exact nearest that a search has to find */
  constructor(target: number) {
    this.#target = target
  }

  get recall(): number | null {
    return this.#recall
  }

  /** ef for a search of so many candidates. */
  width(candidates: number): number {
    return Math.ceil(Math.max(candidates, this.#effort * (LEAST + FOR_EACH * candidates)))
  }

  /** Takes in what a search has found and missed of the exact nearest in a sample. */
  judge(found: number, missed: number): void {
    this.#found += found
    this.#missed += missed
    const all = this.#found + this.#missed
    if (all < EVIDENCE) return
    this.#recall = this.#found / all
    this.#found = 0
    this.#missed = 0
    // Between the target and half of what it leaves open nothing changes.
    if (this.#recall < this.#target) this.#effort = Math.min(WIDEST, this.#effort * WIDER)
    else if (this.#recall > (1 + this.#target) / 2) this.#effort = Math.max(NARROWEST, this.#effort * NARROWER)
  }
}
