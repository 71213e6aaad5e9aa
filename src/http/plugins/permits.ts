import type { Call } from '../../retrieval/retrieval.js'

type Priority = NonNullable<Call['priority']>

/** Share of the permits that a single client leaves free, so that a second one can begin. */
const LEFT_FREE = 0.25

/** The permits of one priority, and how many each client holds. */
interface Pool {
  readonly limit: number
  taken: number
  readonly of: Map<string, number>
}

/** Permits of two priorities. Clients that hold permits of one priority have equal shares of it. */
export class Permits {
  readonly #pools: Readonly<Record<Priority, Pool>>

  constructor({ interactive, bulk }: Readonly<Record<Priority, number>>) {
    this.#pools = {
      interactive: { limit: interactive, taken: 0, of: new Map() },
      bulk: { limit: bulk, taken: 0, of: new Map() },
    }
  }

  /** @returns a function that gives the permit back, or the sentence of the refusal */
  take(priority: Priority, client: string): (() => void) | string {
    const pool = this.#pools[priority]
    const { limit } = pool
    const what = priority === 'bulk' ? 'bulk requests' : 'requests'
    if (pool.taken >= limit)
      return `${limit} ${what} are being answered, the most at a time; try again shortly.`
    const share = shareOf(pool, client)
    if ((pool.of.get(client) ?? 0) >= share)
      return `${share} ${what} of this client are being answered, its share of ${limit}; try again shortly.`
    count(pool, client, 1)
    return () => count(pool, client, -1)
  }
}

function shareOf({ limit, of }: Pool, client: string): number {
  const others = of.size - (of.has(client) ? 1 : 0)
  return Math.max(
    1,
    others === 0 ? Math.ceil(limit * (1 - LEFT_FREE)) : Math.floor(limit / (others + 1)),
  )
}

function count(pool: Pool, client: string, change: 1 | -1): void {
  pool.taken += change
  const held = (pool.of.get(client) ?? 0) + change
  if (held === 0) pool.of.delete(client)
  else pool.of.set(client, held)
}
