/** How well an index finds what the store holds: the part of `tandem check` that compares. */
import type { ItemStore } from '../item-store/item-store.js'
import type { VectorIndex } from '../vector-index/vector-index.js'

/** Neighbours that are compared for each item of the sample. */
const K = 10
/** Similarities that differ by less are equal: 32-bit sums in another order. */
const SIMILARITY_TOLERANCE = 1e-5
const BATCH = 512

export interface SelfCheck {
  items: number
  /** Items of which the store lacks a part. */
  broken: string[]
  /** Items that the index lacks, and ids that the store lacks. */
  missing: string[]
  strange: string[]
  /** Items whose neighbours were compared. */
  sample: number
  /** Share of the exact top k that the index finds for the sample. */
  annRecall: number
  /** Items of the sample that a search for their own embedding does not find. */
  unreachable: string[]
  /** Items of the sample that are in the index with another embedding. */
  outdated: string[]
}

/**
 * Compares `index` with `exact`, an index of the same items that compares with every embedding, and
 * both with the store.
 *
 * @param exact - empty; it is filled from the store
 * @param sample - how many items are searched for by their own embedding; they are spread over all
 *   ids
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
    strange: [...index.ids()].filter((id) => !store.has(id)),
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
    // By similarity: of equal images, any may be among the first.
    common += answer.filter(({ similarity }) => similarity >= worst).length
    possible += truth.length
    const self = answer.find((neighbour) => neighbour.id === id)
    const isCrowded = answer.length === K && answer.every(({ similarity }) => isSame(similarity))
    if (self === undefined && !isCrowded) found.unreachable.push(id)
    else if (self !== undefined && !isSame(self.similarity)) found.outdated.push(id)
  }
  return { ...found, annRecall: possible === 0 ? 1 : common / possible }
}

/** Whether it is the similarity of an embedding with itself. */
function isSame(similarity: number): boolean {
  return similarity > 1 - SIMILARITY_TOLERANCE
}
