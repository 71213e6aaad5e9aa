import type { RefusalReason } from '../../errors.js'
import type { Call } from '../../retrieval/retrieval.js'

type Priority = NonNullable<Call['priority']>

/** Share of the permits that a single client leaves free, so that a second one can begin. */
const LEFT_FREE = 0.25

/** Why a client cannot have a permit now. */
export interface Refusal {
  readonly reason: RefusalReason
  readonly sentence: string
}

/** The permits of one priority, and how many each client holds. */
interface Pool {
  readonly limit: number
  readonly what: string
  readonly reason: RefusalReason
  taken: number
  readonly of: Map<string, number>
  /** In the order of their calls. */
  readonly waiting: Set<{ client: string; start: (permit: () => void) => void }>
}

/** Permits of two priorities. Clients that hold permits of one priority have equal shares of it. */
export class Permits {
  readonly #pools: Readonly<Record<Priority, Pool>>

  constructor({ interactive, bulk }: Readonly<Record<Priority, number>>) {
    this.#pools = {
      interactive: newPool(interactive, 'requests', 'requests'),
      bulk: newPool(bulk, 'bulk requests', 'bulk_requests'),
    }
  }

  /** Null where the client can have a permit now. */
  refusal(priority: Priority, client: string): Refusal | null {
    const pool = this.#pools[priority]
    const { limit, what, reason } = pool
    if (pool.taken >= limit)
      return {
        reason,
        sentence: `${limit} ${what} are being answered, the most at a time; try again shortly.`,
      }
    const share = shareOf(pool, client)
    if ((pool.of.get(client) ?? 0) < share) return null
    const sentence = `${share} ${what} of this client are being answered, its share of ${limit}; try again shortly.`
    return { reason: 'client_share', sentence }
  }

  /** @returns a function that gives the permit back, or the refusal */
  take(priority: Priority, client: string): (() => void) | Refusal {
    return this.refusal(priority, client) ?? this.#give(priority, client)
  }

  /**
   * Waits for a permit; of those that can have one, the first that waits gets it.
   * @throws the reason of `signal`
   */
  wait(priority: Priority, client: string, signal: AbortSignal | undefined): Promise<() => void> {
    signal?.throwIfAborted()
    const permit = this.take(priority, client)
    if (typeof permit === 'function') return Promise.resolve(permit)
    const { waiting } = this.#pools[priority]
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        waiting.delete(entry)
        reject(signal?.reason as Error)
      }
      const entry = {
        client,
        start: (given: () => void): void => {
          waiting.delete(entry)
          signal?.removeEventListener('abort', leave)
          resolve(given)
        },
      }
      waiting.add(entry)
      signal?.addEventListener('abort', leave, { once: true })
    })
  }

  #give(priority: Priority, client: string): () => void {
    const pool = this.#pools[priority]
    count(pool, client, 1)
    return () => {
      count(pool, client, -1)
      for (const { client: next, start } of pool.waiting)
        if (this.refusal(priority, next) === null) start(this.#give(priority, next))
    }
  }
}

function newPool(limit: number, what: string, reason: RefusalReason): Pool {
  return { limit, what, reason, taken: 0, of: new Map(), waiting: new Set() }
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
