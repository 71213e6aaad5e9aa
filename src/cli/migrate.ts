/**
 * `tandem migrate`: copies an embedded collection into Milvus, or back, while the source serves.
 * Embeddings are copied, not computed. A repeated command resumes an interrupted one.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Option, type Command } from 'commander'
import { readConfig, type Config } from '../config.js'
import { lockDataFolder } from '../files/lock.js'
import type { ItemStore } from '../item-store/item-store.js'
import { openItemStore } from '../item-store/open.js'
import { openMilvus } from '../collection/milvus/items.js'
import type { MilvusItems } from '../collection/milvus/milvus.js'
import { openBundle } from '../model/bundle/open.js'
import { openSharedPlace } from '../collection/milvus/open.js'
import { compare, faultsOf, type Comparison } from './migration/comparison.js'
import { copy, type Copied } from './migration/copy.js'
import { EmbeddedSide } from './migration/embedded-side.js'
import { MigrationMark } from './migration/mark.js'
import { MilvusSide } from './migration/milvus-side.js'
import type { Side } from './migration/sides.js'
import { printLine, startProgress, type Terminal } from './terminal/terminal.js'

const destinations = ['milvus', 'embedded'] as const
type Destination = (typeof destinations)[number]

/** Sizes of the comparison at the end. */
const SAMPLE = { items: 200, searches: 50 }

export interface Migrated extends Copied, Comparison {
  /** Sentences; empty after a complete migration. */
  faults: string[]
}

export function addMigrateCommand(program: Command, terminal: Terminal): void {
  program
    .command('migrate')
    .description(
      'copy the items of the data folder into Milvus, or back, while the source serves; resumes an interrupted migration',
    )
    .addOption(
      new Option('--to <collection>', 'the target').choices(destinations).makeOptionMandatory(),
    )
    .action(async ({ to }: { to: Destination }) => {
      const outcome = await migrate(readConfig(process.env), to, terminal)
      for (const line of migrationLines(outcome)) printLine(terminal.out, line)
      if (outcome.faults.length > 0) process.exitCode = 1
    })
}

/**
 * @throws Error for a missing source, another bundle, or a target with other items; copied items
 *   stay
 */
async function migrate(config: Config, to: Destination, terminal: Terminal): Promise<Migrated> {
  const folder = join(config.dataFolder, 'items')
  if (to === 'milvus' && !existsSync(folder))
    throw new Error(
      `There are no items in the data folder ${config.dataFolder}: nothing to migrate.`,
    )
  const { fingerprint, manifest } = await openBundle(config.modelFolder)
  const { dim } = manifest.embedding
  // Reading needs no lock.
  const lock = to === 'embedded' ? await lockDataFolder(config.dataFolder, 'tandem migrate') : null
  try {
    const store = await openItemStore(
      to === 'milvus' ? { folder, fingerprint: null, readOnly: true } : { folder, fingerprint },
    )
    try {
      checkBundle(store, fingerprint, config)
      const report = (sentence: string): void => printLine(terminal.err, sentence)
      const { milvus, images } = await openSharedPlace(config, { fingerprint, dim }, report)
      try {
        const items = await openMilvus(milvus)
        return await between(config, to, { store, items, dim }, terminal).finally(() =>
          items.close(),
        )
      } finally {
        images.close()
      }
    } finally {
      await store.close()
    }
  } finally {
    await lock?.release()
  }
}

async function between(
  config: Config,
  to: Destination,
  { store, items, dim }: { store: ItemStore; items: MilvusItems; dim: number },
  terminal: Terminal,
): Promise<Migrated> {
  const { dataFolder, milvusAddress, milvusDatabase, milvusCollection } = config
  const embedded = new EmbeddedSide(`the data folder ${dataFolder}`, store)
  const milvus = new MilvusSide(`the Milvus collection ${milvusCollection}`, items)
  const [source, target] = to === 'milvus' ? [embedded, milvus] : [milvus, embedded]
  // A misspelt name has no items either, and must not empty the target.
  if (source.size === 0)
    throw new Error(`There are no items in ${source.name}: nothing to migrate.`)
  const collection = [milvusAddress, milvusDatabase, milvusCollection].join(' ')
  const mark = await MigrationMark.read(dataFolder, store.identity, collection)
  await checkTarget(target, mark)
  await mark.save()
  const progress = startProgress(terminal, source.size, 'items')
  const copied = await copy(source, target, mark, (count) => progress.advance(count)).finally(() =>
    progress.stop(),
  )
  const compared = await compare(embedded, milvus, dim, SAMPLE)
  return {
    ...copied,
    ...compared,
    faults: [...faultsOf(compared), ...unfinished(copied, source, target)],
  }
}

function checkBundle(
  store: ItemStore,
  fingerprint: string,
  { dataFolder, modelFolder }: Config,
): void {
  if (store.fingerprint === fingerprint) return
  const serving = `${store.fingerprint}${store.bundles.serving.name === null ? '' : ` (${store.bundles.serving.name})`}`
  throw new Error(
    `The items in ${dataFolder} are encoded by the bundle of fingerprint ${serving}; that in ${modelFolder} has ${fingerprint}. Name the former in TANDEM_MODEL.`,
  )
}

/** @throws Error if the target has items that no migration of this pair copied */
async function checkTarget(target: Side, mark: MigrationMark): Promise<void> {
  if (mark.isKnown) return
  for await (const page of target.pages()) {
    if (page.length === 0) continue
    throw new Error(
      `${target.name} has items that no migration of these two copied. A migration starts with an empty target.`,
    )
  }
}

function unfinished({ isLevel, foreign }: Copied, source: Side, target: Side): string[] {
  return [
    ...(isLevel
      ? []
      : [
          `${source.name} changes faster than it can be copied: stop the writes and run this again`,
        ]),
    ...(foreign.size > 0
      ? [`${foreign.size} items that others wrote to ${target.name} meanwhile were left unchanged`]
      : []),
  ]
}

function migrationLines({
  copied,
  removed,
  items,
  same,
  searches,
  annRecall,
  faults,
}: Migrated): string[] {
  return [
    `${items} items; ${copied} copied, ${removed} removed`,
    `compared: ${same} sampled items are equal; ${searches} searches, ANN recall ${annRecall.toFixed(4)}`,
    ...faults.map((fault) => `fault: ${fault}`),
    faults.length === 0 ? 'complete' : 'not complete',
  ]
}
