/**
 * The items that filters let through, as far as they have been looked for. Such a set is a cache of
 * the item store as the index is: it has a position, and is brought level by the payloads that
 * changed since. So a filter that is asked again costs what changed meanwhile, not another look at
 * every payload.
 */
import { setImmediate } from 'node:timers/promises'
import type { Filter } from '../../filter/filter.js'
import { testOf } from '../../filter/matches.js'
import type { ItemStore } from '../../item-store/item-store.js'

/** Payloads tested in one go, a millisecond or two; other requests go on between. */
const SLICE = 500
const MOST_SETS = 32
/** Ids kept in all sets together, some hundred bytes each. */
const MOST_IDS = 500_000

export class FilteredSet {
  readonly test: ReturnType<typeof testOf>
  /** Removed items may still be among them. */
  readonly ids = new Set<string>()
  #position = 0

  constructor(filter: Filter) {
    this.test = testOf(filter)
  }

  /** Whether no payload has been looked at. */
  get isNew(): boolean {
    return this.#position === 0
  }

  /** How many payloads have to be looked at, at most, until the set is level with the store. */
  behind(store: ItemStore): number {
    return Math.min(store.size, Math.max(0, store.position - this.#position))
  }

  /** Takes in what has been stored until now. @throws the reason of the signal */
  async level(store: ItemStore, signal: AbortSignal | undefined): Promise<void> {
    const target = store.position
    while (this.#position < target) {
      const { payloads, position } = store.payloadsSince(this.#position, SLICE)
      for (const { id, payload } of payloads) {
        if (this.test(payload)) this.ids.add(id)
        else this.ids.delete(id)
      }
      // Several requests may do this at once: each goes on from where the set is by now.
      this.#position = position
      await setImmediate()
      signal?.throwIfAborted()
    }
  }
}

export class FilteredSets {
  /** Those used last come last. */
  readonly #sets = new Map<string, FilteredSet>()

  /** The set of a filter that has been asked before, otherwise a new one. */
  find(filter: Filter, store: ItemStore): FilteredSet {
    const known = this.#sets.get(JSON.stringify(filter))
    // With more ids than there are items, much of it has been removed: made again it is smaller.
    return known === undefined || known.ids.size > store.size ? new FilteredSet(filter) : known
  }

  /** The set of a filter, level, which is kept. @throws the reason of the signal */
  async level(
    filter: Filter,
    store: ItemStore,
    signal: AbortSignal | undefined,
  ): Promise<FilteredSet> {
    const set = this.find(filter, store)
    const key = JSON.stringify(filter)
    this.#sets.delete(key)
    // Before it is level: who asks the same meanwhile shares the work.
    this.#sets.set(key, set)
    try {
      await set.level(store, signal)
      return set
    } finally {
      this.#forget()
    }
  }

  /** Of all sets keeps those used last. */
  #forget(): void {
    let ids = [...this.#sets.values()].reduce((sum, one) => sum + one.ids.size, 0)
    for (const [oldest, { ids: its }] of this.#sets) {
      if (this.#sets.size <= MOST_SETS && ids <= MOST_IDS) return
      this.#sets.delete(oldest)
      ids -= its.size
    }
  }
}
