import { setImmediate } from 'node:timers/promises'
import type { Filter } from '../../filter/filter.js'
import type { ItemStore } from '../../item-store/item-store.js'
import { cosine } from '../../vector-index/normalise.js'
import type { Neighbour, VectorIndex } from '../../vector-index/vector-index.js'
import type { FilteredSets } from './filtered-sets.js'

/**
 * Costs relative to reading a payload, which takes about 3 µs: an embedding takes 6 µs, a graph
 * candidate 3 µs plus its payload (`bench/filter-costs.ts`, 20,000 items of 256 dimensions).
 */
const GRAPH_COST = 2
const EMBEDDING_COST = 2
/** Reading a payload for the set counts less, because the next search with the filter reuses it. */
const SET_COST = 0.25
/** Extra depth: items near the query may pass less often than the average item. */
const MARGIN = 1.5
/** Entries read before yielding to the event loop, which takes a millisecond or two. */
const SLICE = 250

export interface FilteredQuery {
  filter: Filter
  embedding: Float32Array
  candidates: number
  signal: AbortSignal | undefined
}

/**
 * The nearest items that pass a filter, best first.
 *
 * If many items pass, the graph is searched for more candidates than needed, and again for more,
 * until enough of them pass. If few pass, that would visit most of the graph: then the set of
 * passing items is computed from all payloads, cached, and compared with the query exactly. Both
 * ways return `candidates` items whenever as many pass.
 * @throws TandemError `index_unavailable`; the reason of the signal
 */
export async function filteredRecall(
  { index, store }: { index: VectorIndex; store: ItemStore },
  sets: FilteredSets,
  { filter, embedding, candidates, signal }: FilteredQuery,
): Promise<Neighbour[]> {
  const set = sets.find(filter, store)
  const size = store.size
  /** Estimated share of items that pass; 1 while nothing is known. */
  let share = set.isNew ? 1 : set.ids.size / size
  let depth = Math.ceil((MARGIN * candidates) / share)
  while (depth * GRAPH_COST < set.lag(store) * SET_COST + share * size * EMBEDDING_COST) {
    const recalled = await index.search(embedding, depth)
    const passed: Neighbour[] = []
    await inSlices(recalled, signal, (neighbour) => {
      const payload = store.payload(neighbour.id)
      if (payload !== undefined && set.test(payload)) passed.push(neighbour)
    })
    if (passed.length >= candidates) return passed.slice(0, candidates)
    if (recalled.length < depth) break
    // If none passed, assume half an item, so that the depth doubles.
    share = Math.max(passed.length, 0.5) / depth
    depth = Math.max(2 * depth, Math.ceil((MARGIN * candidates) / share))
  }
  const { ids } = await sets.upToDate(filter, store, signal)
  return nearest(store, ids, embedding, candidates, signal)
}

/** The nearest of `ids` by exact comparison; skips removed items. */
async function nearest(
  store: ItemStore,
  ids: Iterable<string>,
  embedding: Float32Array,
  candidates: number,
  signal: AbortSignal | undefined,
): Promise<Neighbour[]> {
  const neighbours: Neighbour[] = []
  await inSlices([...ids], signal, (id) => {
    const other = store.embedding(id)
    if (other !== undefined) neighbours.push({ id, similarity: cosine(embedding, other) })
  })
  return neighbours.sort((a, b) => b.similarity - a.similarity).slice(0, candidates)
}

/** @throws the reason of the signal */
async function inSlices<Entry>(
  entries: readonly Entry[],
  signal: AbortSignal | undefined,
  visit: (entry: Entry) => void,
): Promise<void> {
  for (let start = 0; start < entries.length; start += SLICE) {
    entries.slice(start, start + SLICE).forEach(visit)
    if (start + SLICE < entries.length) await setImmediate()
    signal?.throwIfAborted()
  }
}
