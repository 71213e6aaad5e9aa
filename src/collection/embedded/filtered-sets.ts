import { setImmediate } from 'node:timers/promises'
import type { Filter } from '../../filter/filter.js'
import { testOf } from '../../filter/matches.js'
import type { ItemStore } from '../../item-store/item-store.js'

/** Payloads tested before yielding to the event loop, which takes a millisecond or two. */
const SLICE = 500
const MAX_SETS = 32
/** In all sets together; some hundred bytes each. */
const MAX_IDS = 500_000

/**
 * The ids of the items that pass a filter: a cache of the item store up to a position. Repeating a
 * filter only tests the payloads that changed since.
 */
class FilteredSet {
  readonly test: ReturnType<typeof testOf>
  /** May contain removed items. */
  readonly ids = new Set<string>()
  #position = 0

  constructor(filter: Filter) {
    this.test = testOf(filter)
  }

  /** Whether no payload has been tested. */
  get isNew(): boolean {
    return this.#position === 0
  }

  /** The most payloads left to test. */
  lag(store: ItemStore): number {
    return Math.min(store.size, Math.max(0, store.position - this.#position))
  }

  /** Tests the payloads that changed up to now. @throws the reason of the signal */
  async update(store: ItemStore, signal: AbortSignal | undefined): Promise<void> {
    const target = store.position
    while (this.#position < target) {
      const { payloads, position } = store.payloadsSince(this.#position, SLICE)
      for (const { id, payload } of payloads) {
        if (this.test(payload)) this.ids.add(id)
        else this.ids.delete(id)
      }
      // Concurrent requests share the work: each continues from the common position.
      this.#position = position
      await setImmediate()
      signal?.throwIfAborted()
    }
  }
}

/** The sets of the filters used last. */
export class FilteredSets {
  /** In the order of their last use. */
  readonly #sets = new Map<string, FilteredSet>()

  /** The cached set of a filter, or a new one. */
  find(filter: Filter, store: ItemStore): FilteredSet {
    const cached = this.#sets.get(JSON.stringify(filter))
    // A set with more ids than items contains many removed ones: replace it.
    return cached === undefined || cached.ids.size > store.size ? new FilteredSet(filter) : cached
  }

  /** The set of a filter, updated and cached. @throws the reason of the signal */
  async upToDate(
    filter: Filter,
    store: ItemStore,
    signal: AbortSignal | undefined,
  ): Promise<FilteredSet> {
    const set = this.find(filter, store)
    const key = JSON.stringify(filter)
    this.#sets.delete(key)
    // Cached before it is updated, so that concurrent searches share the work.
    this.#sets.set(key, set)
    try {
      await set.update(store, signal)
      return set
    } finally {
      this.#evict()
    }
  }

  #evict(): void {
    let ids = [...this.#sets.values()].reduce((sum, set) => sum + set.ids.size, 0)
    for (const [oldest, set] of this.#sets) {
      if (this.#sets.size <= MAX_SETS && ids <= MAX_IDS) return
      this.#sets.delete(oldest)
      ids -= set.ids.size
    }
  }
}
