/** Compares two collections of the same items, at the end of a migration. */
import { isDeepStrictEqual } from 'node:util'
import type { Item } from '../../collection/collection.js'
import { openVectorIndex } from '../../vector-index/open.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'
import type { Searched, Side } from './sides.js'

/** Neighbours that are compared for each item of the sample. */
const K = 10
/** Requested in addition, because items written during the comparison are ignored. */
const SPARE = 30
/** Of cosines: an engine may sum in another order. */
const TOLERANCE = 1e-3
/** Share of the exact top k that an approximate index must find. */
const MIN_ANN_RECALL = 0.95
/** Ids listed in a fault. */
const MAX_LISTED = 5

export interface Comparison {
  /** Items in the same version on both sides. */
  items: number
  /** Items of the sample that are equal byte by byte, with their images. */
  same: number
  /** Ids of items that differ. */
  different: string[]
  /** Searches compared with exact search, and the share of the exact top k that they found. */
  searches: number
  annRecall: number
  /** Ids whose similarities to one query differ. */
  dissimilar: string[]
}

/** Size of the comparison. */
export interface Sample {
  items: number
  searches: number
}

/**
 * Compares a sample of the items, spread over all ids, and searches by some of them. Ignores items
 * written during the comparison.
 *
 * @param embedded - the side whose items are searched exactly
 */
export async function compare(
  embedded: Side,
  other: Searched,
  dim: number,
  sample: Sample,
): Promise<Comparison> {
  const { exact, ids } = await common(embedded, other, dim)
  const result: Comparison = {
    items: ids.size,
    same: 0,
    different: [],
    searches: 0,
    annRecall: 1,
    dissimilar: [],
  }
  const step = Math.max(1, Math.ceil(ids.size / sample.items))
  let [inBoth, possible] = [0, 0]
  for (const id of [...ids].filter((_, at) => at % step === 0)) {
    const outcome = (await isSame(id, embedded, other)) ?? (await isSame(id, embedded, other))
    if (outcome === undefined) continue
    if (outcome) result.same += 1
    else result.different.push(id)
    const [item] = await embedded.getMany([id])
    if (result.searches === sample.searches || item === undefined) continue
    result.searches += 1
    const truth = await exact.search(item.embedding, K)
    const answer = (await other.recall(item.embedding, K + SPARE))
      .filter((neighbour) => ids.has(neighbour.id))
      .slice(0, K)
    const worst = (truth.at(-1)?.similarity ?? 1) - TOLERANCE
    // By similarity, because equal images are interchangeable.
    inBoth += answer.filter(({ similarity }) => similarity >= worst).length
    possible += truth.length
    const cosines = new Map(truth.map((neighbour) => [neighbour.id, neighbour.similarity]))
    for (const neighbour of answer) {
      const apart = Math.abs(
        (cosines.get(neighbour.id) ?? neighbour.similarity) - neighbour.similarity,
      )
      if (apart > TOLERANCE && (await isSame(neighbour.id, embedded, other)) !== undefined)
        result.dissimilar.push(neighbour.id)
    }
  }
  return { ...result, annRecall: possible === 0 ? 1 : inBoth / possible }
}

/** @returns the ids in the same version on both sides, and an exact index of these items */
async function common(
  embedded: Side,
  other: Side,
  dim: number,
): Promise<{ exact: VectorIndex; ids: Set<string> }> {
  const exact = await openVectorIndex({
    kind: 'exact',
    folder: '',
    dim,
    fingerprint: '',
    storeIdentity: '',
  })
  const versions = new Map<string, string>()
  for await (const page of embedded.pages()) {
    const items = (await embedded.getMany(page.map(({ id }) => id))).filter(
      (item) => item !== undefined,
    )
    await exact.upsert(items, 0)
    for (const { id, addedAt } of items) versions.set(id, addedAt)
  }
  const ids = new Set<string>()
  for await (const page of other.pages()) {
    for (const { id, addedAt } of page) if (versions.get(id) === addedAt) ids.add(id)
  }
  await exact.remove(
    [...versions.keys()].filter((id) => !ids.has(id)),
    0,
  )
  return { exact, ids }
}

/** Undefined for different versions, and for an item that changed during the comparison. */
async function isSame(id: string, embedded: Side, other: Side): Promise<boolean | undefined> {
  const [[a], [b]] = await Promise.all([embedded.getMany([id]), other.getMany([id])])
  const [imageA, imageB] = await Promise.all([embedded.image(id), other.image(id)])
  const [[laterA], [laterB]] = await Promise.all([embedded.getMany([id]), other.getMany([id])])
  if (a === undefined || b === undefined || a.addedAt !== b.addedAt) return undefined
  if (laterA?.addedAt !== a.addedAt || laterB?.addedAt !== b.addedAt) return undefined
  return (
    isDeepStrictEqual(partsOf(a), partsOf(b)) && isDeepStrictEqual(bytesOf(imageA), bytesOf(imageB))
  )
}

/** Sentences; empty where both sides agree. */
export function faultsOf({ different, dissimilar, annRecall }: Comparison): string[] {
  return [
    ...(different.length > 0 ? [`items that differ: ${named(different)}`] : []),
    ...(dissimilar.length > 0 ? [`items with other similarities: ${named(dissimilar)}`] : []),
    ...(annRecall < MIN_ANN_RECALL
      ? [`searches find ${annRecall.toFixed(4)} of the exact answers, less than ${MIN_ANN_RECALL}`]
      : []),
  ]
}

function partsOf({ id, payload, embedding, imageTokens, image, addedAt }: Item): unknown {
  return { id, payload, embedding, imageTokens, image, addedAt }
}

/** As a Buffer, so that equal bytes compare equal. */
function bytesOf(bytes: Uint8Array | undefined): Buffer | undefined {
  return bytes && Buffer.from(bytes)
}

function named(ids: readonly string[]): string {
  return `${ids.length} (${ids.slice(0, MAX_LISTED).join(', ')}${ids.length > MAX_LISTED ? ', …' : ''})`
}
