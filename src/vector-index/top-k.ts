/**
 * The best of many similarities, without sorting the rest: a heap whose top is the worst that is
 * kept.
 */
export interface Found {
  labels: number[]
  similarities: number[]
}

export class TopK {
  readonly #labels: Int32Array
  readonly #similarities: Float64Array
  #count = 0

  /** @param limit - how many to keep, at least 1 */
  constructor(limit: number) {
    this.#labels = new Int32Array(limit)
    this.#similarities = new Float64Array(limit)
  }

  /** What a similarity has to exceed to be kept. */
  get threshold(): number {
    return this.#count < this.#labels.length ? -Infinity : (this.#similarities[0] as number)
  }

  /** Keeps it where it is above the threshold; what is not a number is not. */
  offer(label: number, similarity: number): void {
    if (!(similarity > this.threshold)) return
    if (this.#count < this.#labels.length) this.#raise(this.#count++, label, similarity)
    else this.#lower(label, similarity)
  }

  /** Best first. */
  found(): Found {
    const order = Array.from({ length: this.#count }, (_, at) => at)
    order.sort((a, b) => (this.#similarities[b] as number) - (this.#similarities[a] as number))
    return {
      labels: order.map((at) => this.#labels[at] as number),
      similarities: order.map((at) => Math.max(-1, Math.min(1, this.#similarities[at] as number))),
    }
  }

  #put(at: number, label: number, similarity: number): void {
    this.#labels[at] = label
    this.#similarities[at] = similarity
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#labels[from] as number, this.#similarities[from] as number)
  }

  /** From the end of the heap towards its top. */
  #raise(from: number, label: number, similarity: number): void {
    let at = from
    while (at > 0) {
      const parent = (at - 1) >> 1
      if ((this.#similarities[parent] as number) <= similarity) break
      this.#move(parent, at)
      at = parent
    }
    this.#put(at, label, similarity)
  }

  /** In the place of the top, towards the end. */
  #lower(label: number, similarity: number): void {
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= this.#count) break
      if (
        child + 1 < this.#count &&
        (this.#similarities[child + 1] as number) < (this.#similarities[child] as number)
      )
        child += 1
      if ((this.#similarities[child] as number) >= similarity) break
      this.#move(child, at)
      at = child
    }
    this.#put(at, label, similarity)
  }
}
