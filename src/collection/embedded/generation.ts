/** A generation: one bundle's models, its index, and the item store as that bundle sees it. */
import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { BaseLogger } from 'pino'
import type { ItemStore } from '../../item-store/item-store.js'
import { DamagedStoreError } from '../../item-store/lmdb-pages.js'
import { hasContent, openItemStore } from '../../item-store/open.js'
import { BundleError } from '../../model/bundle/bundle.js'
import { openBundle } from '../../model/bundle/open.js'
import type { Models } from '../../model/models.js'
import { openVectorIndex } from '../../vector-index/open.js'
import { hasSnapshot } from '../../vector-index/snapshot.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'
import { BUNDLE_NAME } from '../collection.js'

/** Two generations share the data behind their stores. */
export interface Generation {
  models: Models
  index: VectorIndex
  store: ItemStore
}

export interface GenerationOptions {
  dataFolder: string
  /** The configured bundle; other bundles are folders next to it. */
  modelFolder: string
  indexKind: 'hnsw' | 'exact'
  /** Opens the models of the bundle in `folder`. */
  openModels: (folder: string) => Promise<Models>
  log: Pick<BaseLogger, 'info' | 'warn' | 'error'>
}

/**
 * The serving generation. The store decides which bundle serves: after a promotion it is another
 * than the configured one.
 */
export async function openServingGeneration(options: GenerationOptions): Promise<Generation> {
  const { modelFolder, dataFolder, log } = options
  const { fingerprint } = await openBundle(modelFolder)
  const name = basename(modelFolder)
  const store = await openStore(options, { fingerprint, name })
  return orClose(store, async () => {
    const { serving, next } = store.bundles
    const isPromoted = serving.fingerprint !== fingerprint
    if (isPromoted) {
      log.warn(
        { configured: name, serving: serving.name, fingerprint: serving.fingerprint },
        `TANDEM_MODEL names ${name}, but ${serving.name} serves: it was promoted`,
      )
    }
    const used = [serving.fingerprint, ...(next === null ? [] : [next.fingerprint])]
    await removeUnusedIndexes(dataFolder, used)
    const folder = isPromoted ? siblingFolder(modelFolder, serving.name ?? '') : modelFolder
    return openBundleGeneration(options, folder, store)
  })
}

/** The generation of a service whose models run in an encoder at `url`. */
export async function openRemoteGeneration(
  options: GenerationOptions,
  models: Models,
  url: string,
): Promise<Generation> {
  const { fingerprint } = models.info
  const store = await orClose(models, () => openStore(options, { fingerprint }))
  const source = `The bundle of the encoder at ${url}`
  return orClose(store, () => withIndex(options, models, source, store))
}

/** The generation of the bundle in `folder`, over a view of an open store. */
export async function openBundleGeneration(
  options: GenerationOptions,
  folder: string,
  store: ItemStore,
): Promise<Generation> {
  return withIndex(options, await options.openModels(folder), `The bundle in ${folder}`, store)
}

/**
 * The folder of a bundle next to the configured one.
 * @throws BundleError unless `name` matches BUNDLE_NAME
 */
export function siblingFolder(modelFolder: string, name: string): string {
  if (!BUNDLE_NAME.test(name)) {
    throw new BundleError(
      `${JSON.stringify(name)} is not the bare name of a bundle, a folder next to ${modelFolder}.`,
    )
  }
  return join(dirname(modelFolder), name)
}

/** The folder of the snapshot of a bundle's index. */
export function indexFolder(dataFolder: string, fingerprint: string): string {
  return join(dataFolder, 'index', fingerprint)
}

async function openStore(
  { dataFolder, log }: GenerationOptions,
  bundle: { fingerprint: string; name?: string },
): Promise<ItemStore> {
  await refuseLostStore(dataFolder)
  const onMigration = (items: number): void =>
    log.info({ items }, 'items are being migrated to the current format')
  return openItemStore({ folder: join(dataFolder, 'items'), ...bundle, onMigration })
}

/**
 * An index without its items: the file of the items was removed or emptied. An empty store would
 * hide the loss.
 * @throws DamagedStoreError
 */
async function refuseLostStore(dataFolder: string): Promise<void> {
  const items = join(dataFolder, 'items')
  if (await hasContent(items)) return
  const indexes = join(dataFolder, 'index')
  const names = await readdir(indexes).catch(() => [])
  const saved = await Promise.all(names.map((name) => hasSnapshot(join(indexes, name))))
  if (!saved.includes(true)) return
  throw new DamagedStoreError(
    `The item store in ${items} is missing or empty, and ${indexes} has an index of its items. ` +
      'Restore the folder from a copy. To start without items, and then restore a backup, remove ' +
      `${indexes}.`,
  )
}

/** @param source - names the models in the error; closes them if the index cannot be opened */
function withIndex(
  { dataFolder, indexKind, log }: GenerationOptions,
  models: Models,
  source: string,
  store: ItemStore,
): Promise<Generation> {
  return orClose(models, async () => {
    const { fingerprint, dim } = models.info
    if (fingerprint !== store.fingerprint) {
      throw new BundleError(
        `${source} has the fingerprint ${fingerprint}; expected ${store.fingerprint}, the one of the items.`,
      )
    }
    const index = await openVectorIndex({
      kind: indexKind,
      folder: indexFolder(dataFolder, fingerprint),
      dim,
      fingerprint,
      storeIdentity: store.identity,
      report: (sentence) => log.error(sentence),
    })
    if (index.discarded !== null) log.warn(index.discarded)
    return { models, store, index }
  })
}

/** Closes `resource` if `work` fails. */
async function orClose<Result>(
  resource: { close(): Promise<void> },
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    await resource.close()
    throw error
  }
}

/** Removes indexes that a killed service left behind. */
async function removeUnusedIndexes(dataFolder: string, used: readonly string[]): Promise<void> {
  const names = await readdir(join(dataFolder, 'index')).catch(() => [])
  const unused = names.filter((name) => /^[0-9a-f]{16}$/.test(name) && !used.includes(name))
  await Promise.all(unused.map((name) => rm(indexFolder(dataFolder, name), { recursive: true })))
}
