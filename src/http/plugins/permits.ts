import type { Call } from '../../retrieval/retrieval.js'

type Priority = NonNullable<Call['priority']>

/** Share of the bulk permits that a single client leaves free, so that a second one can begin. */
const LEFT_FREE = 0.25

/** Permits of two priorities. Clients that hold bulk permits have equal shares of them. */
export class Permits {
  readonly #limits: Readonly<Record<Priority, number>>
  readonly #taken: Record<Priority, number> = { interactive: 0, bulk: 0 }
  readonly #bulkOf = new Map<string, number>()

  constructor(limits: Readonly<Record<Priority, number>>) {
    this.#limits = limits
  }

  /**
   * @param client - its name; only bulk permits are shared
   * @returns a function that gives the permit back, or the sentence of the refusal
   */
  take(priority: Priority, client: string): (() => void) | string {
    const limit = this.#limits[priority]
    const what = priority === 'bulk' ? 'bulk requests' : 'requests'
    if (this.#taken[priority] >= limit)
      return `${limit} ${what} are being answered, the most at a time; try again shortly.`
    if (priority === 'bulk') {
      const share = this.#shareOf(client)
      if ((this.#bulkOf.get(client) ?? 0) >= share)
        return `${share} bulk requests of this client are being answered, its share of ${limit}; try again shortly.`
    }
    this.#count(priority, client, 1)
    return () => this.#count(priority, client, -1)
  }

  #shareOf(client: string): number {
    const { bulk } = this.#limits
    const others = this.#bulkOf.size - (this.#bulkOf.has(client) ? 1 : 0)
    return Math.max(
      1,
      others === 0 ? Math.ceil(bulk * (1 - LEFT_FREE)) : Math.floor(bulk / (others + 1)),
    )
  }

  #count(priority: Priority, client: string, change: 1 | -1): void {
    this.#taken[priority] += change
    if (priority === 'interactive') return
    const count = (this.#bulkOf.get(client) ?? 0) + change
    if (count === 0) this.#bulkOf.delete(client)
    else this.#bulkOf.set(client, count)
  }
}
