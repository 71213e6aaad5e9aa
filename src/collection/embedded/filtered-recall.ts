/**
 * Recall among the items that a filter lets through, in one of two ways.
 *
 * Where many pass, the graph is searched deeper than asked and what does not pass is dropped,
 * deeper again until enough is left. Where few pass, that would lead through most of the graph:
 * then every payload is looked at once, the set is remembered, and the query is compared with the
 * embedding of each item in it, which is exact. So never are there fewer than asked for while there
 * are more that pass.
 */
import { setImmediate } from 'node:timers/promises'
import type { Filter } from '../../filter/filter.js'
import type { ItemStore } from '../../item-store/item-store.js'
import { cosine } from '../../vector-index/normalise.js'
import type { Neighbour, VectorIndex } from '../../vector-index/vector-index.js'
import type { FilteredSets } from './filtered-sets.js'

/**
 * Costs by what is looked at, of which a payload is 1. `bench/filter-costs.ts`, 20,000 items of 256
 * dimensions: a payload about 3 microseconds, an embedding 6, and an item in the graph 3 more than
 * its payload.
 */
const GRAPH_COST = 2
const EMBEDDING_COST = 2
/**
 * A payload looked at for the set counts less: filters are asked again, and the next time that is
 * done.
 */
const SET_COST = 0.25
/**
 * How much deeper than the share of items that pass says: those near the query may pass less often.
 */
const MARGIN = 1.5
/**
 * Payloads or embeddings looked at in one go, a millisecond or two; other requests go on between.
 */
const SLICE = 250

export interface FilteredAsk {
  filter: Filter
  embedding: Float32Array
  candidates: number
  signal: AbortSignal | undefined
}

/**
 * The nearest items that pass, best first.
 * @throws TandemError `index_unavailable`; the reason of the signal
 */
export async function filteredRecall(
  { index, store }: { index: VectorIndex; store: ItemStore },
  sets: FilteredSets,
  { filter, embedding, candidates, signal }: FilteredAsk,
): Promise<Neighbour[]> {
  const set = sets.find(filter, store)
  const size = store.size
  /** Of all items, how many pass: as the set has it, or all, while nothing is known. */
  let share = set.isNew ? 1 : set.ids.size / size
  let depth = Math.ceil((MARGIN * candidates) / share)
  while (depth * GRAPH_COST < set.behind(store) * SET_COST + share * size * EMBEDDING_COST) {
    const recalled = await index.search(embedding, depth)
    const passed: Neighbour[] = []
    await inSlices(recalled, signal, (neighbour) => {
      const payload = store.payload(neighbour.id)
      if (payload !== undefined && set.test(payload)) passed.push(neighbour)
    })
    if (passed.length >= candidates) return passed.slice(0, candidates)
    if (recalled.length < depth) break
    // Half an item where none passed: one in twice as many may.
    share = Math.max(passed.length, 0.5) / depth
    depth = Math.max(2 * depth, Math.ceil((MARGIN * candidates) / share))
  }
  const { ids } = await sets.level(filter, store, signal)
  return nearest(store, ids, embedding, candidates, signal)
}

/**
 * The nearest of `ids` by a comparison with each; those that are not there any more are passed
 * over.
 */
async function nearest(
  store: ItemStore,
  ids: Iterable<string>,
  embedding: Float32Array,
  candidates: number,
  signal: AbortSignal | undefined,
): Promise<Neighbour[]> {
  const found: Neighbour[] = []
  await inSlices([...ids], signal, (id) => {
    const other = store.embedding(id)
    if (other !== undefined) found.push({ id, similarity: cosine(embedding, other) })
  })
  return found.sort((a, b) => b.similarity - a.similarity).slice(0, candidates)
}

/** @throws the reason of the signal */
async function inSlices<Entry>(
  entries: readonly Entry[],
  signal: AbortSignal | undefined,
  look: (entry: Entry) => void,
): Promise<void> {
  for (let start = 0; start < entries.length; start += SLICE) {
    entries.slice(start, start + SLICE).forEach(look)
    if (start + SLICE < entries.length) await setImmediate()
    signal?.throwIfAborted()
  }
}
