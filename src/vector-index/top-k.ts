/** Labels with their similarities, best first. */
export interface Nearest {
  labels: number[]
  similarities: number[]
}

/** The `limit` highest of many similarities: a heap with the lowest of them at its top. */
export class TopK {
  readonly #labels: Int32Array
  readonly #similarities: Float64Array
  #count = 0

  /** @param limit - at least 1 */
  constructor(limit: number) {
    this.#labels = new Int32Array(limit)
    this.#similarities = new Float64Array(limit)
  }

  /** A similarity has to exceed it to be kept. */
  get threshold(): number {
    return this.#count < this.#labels.length ? -Infinity : (this.#similarities[0] as number)
  }

  /** Keeps a similarity above the threshold; ignores NaN. */
  offer(label: number, similarity: number): void {
    if (!(similarity > this.threshold)) return
    if (this.#count < this.#labels.length) this.#raise(this.#count++, label, similarity)
    else this.#lower(label, similarity)
  }

  sorted(): Nearest {
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

  /** Inserts at the end of the heap and moves towards the top. */
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

  /** Replaces the top and moves towards the end. */
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

/** @throws RangeError unless it is a positive whole number */
export function checkCandidates(candidates: number): void {
  if (!Number.isInteger(candidates) || candidates < 1) {
    throw new RangeError(`${candidates} candidates; expected a positive whole number.`)
  }
}
