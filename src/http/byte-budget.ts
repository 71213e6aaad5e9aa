/** Bytes that a client makes the service keep in memory: a body, or an answer it does not read. */
export interface Holding {
  readonly client: string
  readonly bytes: number
}

interface Kept extends Holding {
  bytes: number
  /** Ends what holds the bytes; null where it cannot be ended. */
  evict: (() => void) | null
}

/**
 * Bounds the bytes of all clients together. Beyond the limit the client with the most bytes loses
 * its largest holding, which may be the new one. So a client with small requests loses none.
 */
export class ByteBudget {
  readonly #limit: number
  readonly #all = new Set<Kept>()
  readonly #of = new Map<string, number>()
  #held = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get held(): number {
    return this.#held
  }

  /** A holding without bytes. @param evict - called at most once, by a later `resize` */
  add(client: string, evict: () => void): Holding {
    const holding: Kept = { client, bytes: 0, evict }
    this.#all.add(holding)
    return holding
  }

  /** Sets the bytes of a holding; those of one that was released or evicted stay 0. */
  resize(holding: Holding, bytes: number): void {
    if (!this.#has(holding)) return
    this.#count(holding, bytes)
    while (this.#held > this.#limit) {
      const largest = this.#largest()
      if (largest === undefined) return
      const { evict } = largest
      this.release(largest)
      evict?.()
    }
  }

  /** From now on the holding stays until it is released, because its work has begun. */
  keep(holding: Holding): void {
    if (this.#has(holding)) holding.evict = null
  }

  release(holding: Holding): void {
    if (!this.#has(holding)) return
    this.#count(holding, 0)
    this.#all.delete(holding)
  }

  #has(holding: Holding): holding is Kept {
    return this.#all.has(holding as Kept)
  }

  #count(holding: Kept, bytes: number): void {
    const change = bytes - holding.bytes
    const ofClient = (this.#of.get(holding.client) ?? 0) + change
    if (ofClient === 0) this.#of.delete(holding.client)
    else this.#of.set(holding.client, ofClient)
    this.#held += change
    holding.bytes = bytes
  }

  /** Of holdings that can end: the largest and latest one of the client with the most bytes. */
  #largest(): Kept | undefined {
    let largest: Kept | undefined
    let most = 0
    for (const holding of this.#all) {
      if (holding.evict === null) continue
      const ofClient = this.#of.get(holding.client) ?? 0
      const isLarger =
        largest === undefined ||
        ofClient > most ||
        (ofClient === most && holding.bytes >= largest.bytes)
      if (isLarger) [largest, most] = [holding, ofClient]
    }
    return largest
  }
}
