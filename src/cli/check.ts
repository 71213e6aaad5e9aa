/** `tandem check`: verifies items and index, and can rebuild the index from the items. */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { indexFolder } from '../collection/embedded/generation.js'
import { repairIndex } from '../collection/embedded/repair.js'
import { readConfig, type Config } from '../config.js'
import { lockDataFolder } from '../files/lock.js'
import type { ItemStore } from '../item-store/item-store.js'
import { openItemStore } from '../item-store/open.js'
import { openVectorIndex } from '../vector-index/open.js'
import type { VectorIndexOptions } from '../vector-index/vector-index.js'
import { wholeNumber } from './options.js'
import { selfCheck, type SelfCheck } from './self-check.js'
import { firstNames, printLine, type Terminal } from './terminal/terminal.js'

/** An intact graph of real embeddings finds more than this, a damaged one less. */
const MIN_ANN_RECALL = 0.95

export interface CheckOutcome extends SelfCheck {
  /** Items that are not what was stored; then the index is not compared. */
  damaged: string[]
  /** Items of an earlier version, which cannot be compared with what was stored. */
  withoutDigest: number
  /** Entries of the store that belong to no item. */
  orphans: string[]
  /** Why the next start must repair the index: no usable snapshot, or an old one. Not a fault. */
  remark: string | null
  isSound: boolean
  /** The index was rebuilt; the figures are from after that. */
  isRepaired: boolean
}

export function addCheckCommand(program: Command, terminal: Terminal): void {
  program
    .command('check')
    .description('verify items and index (the service must be stopped)')
    .option(
      '--sample <items>',
      'items whose neighbours are compared with an exact search',
      wholeNumber(1, 1_000_000),
      200,
    )
    .option('--repair', 'rebuild the index from the items if it is not sound')
    .action(async ({ sample, repair = false }: { sample: number; repair?: boolean }) => {
      const outcome = await check(readConfig(process.env), { sample, repair })
      for (const line of checkLines(outcome)) printLine(terminal.out, line)
      if (!outcome.isSound) process.exitCode = 1
    })
}

/**
 * Checks the data folder of `config` and locks it until the end.
 *
 * @param sample - items whose neighbours are compared with an exact search
 * @throws Error when there is no item store or one of another format, or the folder is in use
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
  const store = await openItemStore({ folder: items, fingerprint: null, isWalked: true })
  try {
    const verified = store.verify()
    if (verified.damaged.length > 0 || verified.orphans.length > 0)
      return { ...NOT_COMPARED, ...verified, items: store.size }
    const found = await checkIndex(store, config, options.sample)
    if (found.isSound || !options.repair) return { ...found, ...verified, isRepaired: false }
    await rm(indexFolder(config.dataFolder, store.fingerprint), { recursive: true, force: true })
    const { remark } = found
    const repaired = await checkIndex(store, config, options.sample, true)
    return { ...repaired, ...verified, remark, isRepaired: true }
  } finally {
    await store.close()
  }
}

/** The index follows the store, so it is not compared with a damaged one. */
const NOT_COMPARED = {
  items: 0,
  broken: [],
  missing: [],
  extra: [],
  sample: 0,
  annRecall: 1,
  unreachable: [],
  outdated: [],
  remark:
    'The index was not compared with the damaged store. Add the items again, or restore a backup.',
  isSound: false,
  isRepaired: false,
}

/** @param save - saves the repaired index */
async function checkIndex(
  store: ItemStore,
  config: Config,
  sample: number,
  save = false,
): Promise<Omit<CheckOutcome, 'isRepaired' | 'damaged' | 'withoutDigest' | 'orphans'>> {
  const dim = store.list({ limit: 1 })[0]?.embedding.length ?? 1
  const { fingerprint, identity: storeIdentity } = store
  const options: VectorIndexOptions = {
    kind: config.vectorIndex === 'exact' ? 'exact' : 'hnsw',
    folder: indexFolder(config.dataFolder, fingerprint),
    dim,
    fingerprint,
    storeIdentity,
  }
  const index = await openVectorIndex(options)
  const exact = await openVectorIndex({ ...options, kind: 'exact' })
  try {
    const remark =
      index.discarded ??
      (index.position === store.position
        ? null
        : `The snapshot of the index is at change ${index.position}, the store at ${store.position}.`)
    await repairIndex(store, index)
    const found = await selfCheck(store, index, exact, sample)
    if (save) await index.save()
    const faults = [
      found.broken,
      found.missing,
      found.extra,
      found.unreachable,
      found.outdated,
    ].flat()
    return { ...found, remark, isSound: faults.length === 0 && found.annRecall >= MIN_ANN_RECALL }
  } finally {
    await index.close()
    await exact.close()
  }
}

/** The outcome as the lines that the command prints. */
export function checkLines(outcome: CheckOutcome): string[] {
  const { items, sample, annRecall, remark, isRepaired, isSound } = outcome
  const faults: [string, string[]][] = [
    ['damaged in the store', outcome.damaged],
    ['entries of no item in the store', outcome.orphans],
    ['broken in the store', outcome.broken],
    ['missing in the index', outcome.missing],
    ['only in the index', outcome.extra],
    ['unreachable in the sample', outcome.unreachable],
    ['outdated in the sample', outcome.outdated],
  ]
  return [
    ...(remark === null ? [] : [remark]),
    ...(isRepaired ? ['The index was rebuilt from the store.'] : []),
    `${items} items; ANN recall ${annRecall.toFixed(4)} on a sample of ${sample}`,
    ...faults.map(([what, ids]) => `${what}: ${ids.length}${firstNames(ids)}`),
    ...(outcome.withoutDigest === 0
      ? []
      : [`without a digest, stored by an earlier version: ${outcome.withoutDigest}`]),
    isSound ? 'sound' : 'not sound',
  ]
}
