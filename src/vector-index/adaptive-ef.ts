/**
 * How widely the graph is searched (ef) so that it finds the share of the exact nearest that is
 * wanted. It begins with what was enough for embeddings of images and captions, and goes by what
 * samples of the searches have been found to miss.
 */

/**
 * What finds .99 of the nearest images to captions: 72 for 64 of 10,000, 230 for 64 of 400,000,
 * above 400 for 64 of a million (bench/index-size.ts). Other embeddings need more or less, and
 * other recalls; that is found out.
 */
const LEAST = 40
/** Among few items and for few candidates: embeddings in heaps want more than those of images. */
const NARROW = 64
const FOR_EACH = 0.65
const growth = (items: number): number => 0.6 + 1.6 * Math.sqrt(items / 100_000)
/**
 * Neighbours that a judgement goes by: of a share of .99 it then knows the missing hundredth to
 * within a quarter.
 */
const EVIDENCE = 2000
const WIDER = 1.25
const NARROWER = 0.95
const WIDEST = 16
const NARROWEST = 0.5

export class AdaptiveEf {
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

  /** ef for a search of so many candidates among so many items. */
  width(candidates: number, items: number): number {
    return Math.ceil(
      Math.max(
        candidates,
        this.#effort * Math.max(NARROW, growth(items) * (LEAST + FOR_EACH * candidates)),
      ),
    )
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
    else if (this.#recall > (1 + this.#target) / 2)
      this.#effort = Math.max(NARROWEST, this.#effort * NARROWER)
  }
}
