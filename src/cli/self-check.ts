/** Compares an index with its store and with an exact search, for `tandem check`. */
import type { ItemStore } from '../item-store/item-store.js'
import type { VectorIndex } from '../vector-index/vector-index.js'

/** Neighbours compared for each item of the sample. */
const K = 10
/** 32-bit sums in another order differ by less than this. */
const SIMILARITY_TOLERANCE = 1e-5
const BATCH = 512

export interface SelfCheck {
  items: number
  /** Items without their image in the store. */
  broken: string[]
  /** Items that are not in the index. */
  missing: string[]
  /** Ids of the index that are not in the store. */
  extra: string[]
  /** Number of items in the sample. */
  sample: number
  /** Share of the exact top k that the index finds for the sample. */
  annRecall: number
  /** Items of the sample that a search by their own embedding does not find. */
  unreachable: string[]
  /** Items of the sample with another embedding in the index. */
  outdated: string[]
}

/**
 * @param exact - an empty exact index; filled from the store
 * @param sample - number of items, spread over all ids, that are searched by their embedding
 */
export async function selfCheck(
  store: ItemStore,
  index: VectorIndex,
  exact: VectorIndex,
  sample: number,
): Promise<SelfCheck> {
  const broken: string[] = []
  for (let page = store.list({ limit: BATCH }); page.length > 0;) {
    const whole = page.filter(({ id, image }) => store.image(id)?.byteLength === image.size)
    broken.push(...page.filter((item) => !whole.includes(item)).map(({ id }) => id))
    await exact.upsert(page, store.position)
    page = store.list({ after: page.at(-1)?.id ?? '', limit: BATCH })
  }
  const ids = [...exact.ids()]
  const step = Math.max(1, Math.ceil(ids.length / sample))
  const sampled = ids.filter((id, at) => at % step === 0 && index.has(id))
  const found: SelfCheck = {
    items: ids.length,
    broken,
    missing: ids.filter((id) => !index.has(id)),
    extra: [...index.ids()].filter((id) => !store.has(id)),
    sample: sampled.length,
    annRecall: 1,
    unreachable: [],
    outdated: [],
  }
  let common = 0
  let possible = 0
  for (const id of sampled) {
    const { embedding } = store.get(id) as NonNullable<ReturnType<ItemStore['get']>>
    const truth = await exact.search(embedding, K)
    const answer = await index.search(embedding, K)
    const worst = (truth.at(-1)?.similarity ?? 1) - SIMILARITY_TOLERANCE
    // Compares similarities, not ids: equal images may come in any order.
    common += answer.filter(({ similarity }) => similarity >= worst).length
    possible += truth.length
    const self = answer.find((neighbour) => neighbour.id === id)
    const isCrowded = answer.length === K && answer.every(({ similarity }) => isSame(similarity))
    if (self === undefined && !isCrowded) found.unreachable.push(id)
    else if (self !== undefined && !isSame(self.similarity)) found.outdated.push(id)
  }
  return { ...found, annRecall: possible === 0 ? 1 : common / possible }
}

/** Whether a similarity is that of an embedding with itself. */
function isSame(similarity: number): boolean {
  return similarity > 1 - SIMILARITY_TOLERANCE
}
