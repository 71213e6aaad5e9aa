/**
 * The width of graph searches (ef) that finds the target share of the exact nearest. It starts with
 * a formula that fits embeddings of images and captions, and follows the recall measured since.
 */

/**
 * The formula fits ef for .99 of the nearest images to captions: 72 for 64 of 10,000, 230 for 64 of
 * 400,000, above 400 for 64 of a million (bench/index-size.ts). Other embeddings need other widths.
 */
const BASE = 40
const PER_CANDIDATE = 0.65
const growth = (items: number): number => 0.6 + 1.6 * Math.sqrt(items / 100_000)
/** Minimum for few items and candidates: clustered embeddings need more than those of images. */
const MIN_EF = 64
/** Fewer are searched as widely: by the formula 10 of 40,000 had .989 (bench/identical.ts). */
const FEWEST_CANDIDATES = 34
/** Neighbours per measurement: they give the missing hundredth of .99 to within a quarter. */
const EVIDENCE = 2000
const WIDEN = 1.25
const NARROW = 0.95
const MAX_FACTOR = 16
const MIN_FACTOR = 0.5

export class AdaptiveEf {
  readonly #target: number
  #factor = 1
  #found = 0
  #missed = 0
  #recall: number | null = null

  /** @param target - share of the exact nearest that a search has to find */
  constructor(target: number) {
    this.#target = target
  }

  /** The last measured share of the exact nearest; null before the first measurement. */
  get recall(): number | null {
    return this.#recall
  }

  /** ef of a search for `candidates` among `items`; at least `candidates`. */
  width(candidates: number, items: number): number {
    const wanted = Math.max(candidates, FEWEST_CANDIDATES)
    const fitted = growth(items) * (BASE + PER_CANDIDATE * wanted)
    return Math.ceil(Math.max(candidates, this.#factor * Math.max(MIN_EF, fitted)))
  }

  /** Takes how many of the exact nearest in a sample a search found and missed. */
  observe(found: number, missed: number): void {
    this.#found += found
    this.#missed += missed
    const total = this.#found + this.#missed
    if (total < EVIDENCE) return
    this.#recall = this.#found / total
    this.#found = 0
    this.#missed = 0
    // Between the target and half way from there to 1 nothing changes.
    if (this.#recall < this.#target) this.#factor = Math.min(MAX_FACTOR, this.#factor * WIDEN)
    else if (this.#recall > (1 + this.#target) / 2)
      this.#factor = Math.max(MIN_FACTOR, this.#factor * NARROW)
  }
}
