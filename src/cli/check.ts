/**
 * `tandem check`: whether the items are whole and the index finds them; on demand it makes the
 * index again.
 */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { indexFolder } from '../collection/embedded/generation.js'
import { repairIndex } from '../collection/embedded/repair.js'
import type { Config } from '../config.js'
import { lockDataFolder } from '../files/lock.js'
import type { ItemStore } from '../item-store/item-store.js'
import { openItemStore } from '../item-store/open.js'
import { openVectorIndex } from '../vector-index/open.js'
import type { VectorIndexOptions } from '../vector-index/vector-index.js'
import { selfCheck, type SelfCheck } from './self-check.js'

/**
 * With the default M and ef, a graph of real embeddings finds more than this; one with damage does
 * not.
 */
const LEAST_ANN_RECALL = 0.95
/** Ids that a line of the report names. */
const NAMED = 5

export interface CheckOutcome extends SelfCheck {
  /**
   * What the next start has to repair: why there is no snapshot, or how far it is behind. Not a
   * fault.
   */
  remark: string | null
  isSound: boolean
  /** The index was made again; the figures are those after it. */
  isRepaired: boolean
}

/**
 * Checks the data folder of `config`, which nobody else may use meanwhile.
 *
 * @param sample - items whose neighbours are compared with exact search
 * @throws when there is no item store, or one of another format, or when the folder is in use
 */
export async function check(
  config: Config,
  options: { sample: number; repair: boolean },
): Promise<CheckOutcome> {
  const items = join(config.dataFolder, 'items')
  if (config.vectorIndex === 'milvus')
    throw new Error(
      'VECTOR_INDEX is milvus; expected hnsw or exact: Milvus checks its collections itself.',
    )
  if (!existsSync(items))
    throw new Error(`There are no items in ${config.dataFolder}: nothing to check.`)
  const lock = await lockDataFolder(config.dataFolder, 'tandem check')
  try {
    return await checkStore(items, config, options)
  } finally {
    await lock.release()
  }
}

async function checkStore(
  items: string,
  config: Config,
  options: { sample: number; repair: boolean },
): Promise<CheckOutcome> {
  const store = await openItemStore({ folder: items, fingerprint: null })
  try {
    const found = await checkIndex(store, config, options.sample)
    if (found.isSound || !options.repair) return { ...found, isRepaired: false }
    await rm(indexFolder(config.dataFolder, store.fingerprint), { recursive: true, force: true })
    const { remark } = found
    return { ...(await checkIndex(store, config, options.sample, true)), remark, isRepaired: true }
  } finally {
    await store.close()
  }
}

/** @param save - whether the index is kept as it is after its repair */
async function checkIndex(
  store: ItemStore,
  config: Config,
  sample: number,
  save = false,
): Promise<Omit<CheckOutcome, 'isRepaired'>> {
  const dim = store.list({ limit: 1 })[0]?.embedding.length ?? 1
  const { fingerprint, identity: storeIdentity } = store
  const folder = indexFolder(config.dataFolder, store.fingerprint)
  const kind = config.vectorIndex === 'exact' ? 'exact' : 'hnsw'
  const options: VectorIndexOptions = {
    kind,
    folder,
    dim,
    fingerprint,
    storeIdentity,
  }
  const index = await openVectorIndex(options)
  const exact = await openVectorIndex({ ...options, kind: 'exact' })
  try {
    const isLevel = index.position === store.position
    const remark =
      index.discarded ??
      (isLevel
        ? null
        : `The snapshot of the index stands at change ${index.position}, the store at ${store.position}.`)
    await repairIndex(store, index)
    const found = await selfCheck(store, index, exact, sample)
    if (save) await index.save()
    const faults = [
      found.broken,
      found.missing,
      found.strange,
      found.unreachable,
      found.outdated,
    ].flat()
    return { ...found, remark, isSound: faults.length === 0 && found.annRecall >= LEAST_ANN_RECALL }
  } finally {
    await index.close()
    await exact.close()
  }
}

/** The report, a line each. */
export function checkLines(outcome: CheckOutcome): string[] {
  const { items, sample, annRecall, remark, isRepaired, isSound } = outcome
  const faults: [string, string[]][] = [
    ['broken in the store', outcome.broken],
    ['missing in the index', outcome.missing],
    ['in the index alone', outcome.strange],
    ['unreachable in the sample', outcome.unreachable],
    ['outdated in the sample', outcome.outdated],
  ]
  return [
    ...(remark === null ? [] : [remark]),
    ...(isRepaired ? ['The index was made again from the store.'] : []),
    `${items} items; ANN recall ${annRecall.toFixed(4)} on a sample of ${sample}`,
    ...faults.map(([what, ids]) => `${what}: ${ids.length}${namesOf(ids)}`),
    isSound ? 'sound' : 'not sound',
  ]
}

function namesOf(ids: readonly string[]): string {
  if (ids.length === 0) return ''
  return ` (${ids.slice(0, NAMED).join(', ')}${ids.length > NAMED ? ', …' : ''})`
}
