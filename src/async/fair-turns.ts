/**
 * Whose turn it is at a server that clients share, by what each has cost so far: start-time fair
 * queueing (Goyal, Vin and Cheng, SIGCOMM 1996). A client that was not served lately begins where
 * the others are, so it is ahead of all that have work waiting.
 */
export class FairTurns {
  /** Virtual time until which a client has been served, of those beyond `#now`. */
  readonly #servedUntil = new Map<string, number>()
  /** Virtual time: where the last turn began. */
  #now = 0

  /** When the next turn of the client begins, in virtual time: the earliest one is next. */
  beginOf(client: string): number {
    return this.#servedUntil.get(client) ?? this.#now
  }

  /** Begins the turn of a client. */
  begin(client: string): void {
    this.#now = this.beginOf(client)
    for (const [name, until] of this.#servedUntil)
      if (until <= this.#now) this.#servedUntil.delete(name)
  }

  /** @param cost - of what is done for the client in a turn, its own or another's */
  charge(client: string, cost: number): void {
    if (cost > 0) this.#servedUntil.set(client, this.beginOf(client) + cost)
  }

  /** Forgets what each client has cost: nobody waits, so nobody was delayed by it. */
  reset(): void {
    this.#servedUntil.clear()
  }
}
