/**
 * Opens the collection that the settings name: for the embedded one the rooms of the bundle that serves, and later those
 * of another bundle that is to take their place.
 */
import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { FastifyBaseLogger } from 'fastify'
import { openEmbedded, type BundleShelf, type Collection, type Rooms } from './collection.js'
import type { Config } from './config.js'
import { lockDataFolder } from './data-folder-lock.js'
import { TandemError } from './errors.js'
import { openItemStore, type ItemStore } from './item-store.js'
import { BundleError, openModels, verifyBundle, type ModelsOptions } from './model.js'
import { openVectorIndex } from './vector-index.js'

/**
 * The collection of a service. An embedded one holds its data folder until it is closed.
 *
 * @throws with a sentence fit for a terminal; what was opened until then is closed again
 */
export async function openCollection(config: Config, log: FastifyBaseLogger): Promise<Collection> {
  const lock = await lockDataFolder(config.dataFolder, 'a Tandem service')
  if (lock.remark !== null) log.warn(lock.remark)
  try {
    return openEmbedded(await openRooms(config, log), bundleShelf(config, log), () => lock.release())
  } catch (error) {
    await lock.release()
    throw error
  }
}

/** The configured bundle, then the store, which knows the bundle that serves, then its models and its index. */
async function openRooms(config: Config, log: FastifyBaseLogger): Promise<Rooms> {
  const { modelFolder, dataFolder } = config
  const { fingerprint } = await verifyBundle(modelFolder)
  const name = basename(modelFolder)
  const onMigration = (items: number): void => log.info({ items }, 'items are moved to the present format')
  const store = await openItemStore({ folder: join(dataFolder, 'items'), fingerprint, name, onMigration })
  try {
    const { serving, standby } = store.bundles
    const isSwitched = serving.fingerprint !== fingerprint
    if (isSwitched) {
      log.warn(
        { configured: name, serving: serving.name, fingerprint: serving.fingerprint },
        `TANDEM_MODEL names ${name}, but the items have been switched to ${serving.name}: that serves`,
      )
    }
    await removeOtherIndexes(dataFolder, [serving.fingerprint, ...(standby === null ? [] : [standby.fingerprint])])
    const folder = isSwitched ? besides(config, serving.name ?? '') : modelFolder
    return await openBundle(config, log, folder, store, join(dataFolder, 'index'))
  } catch (error) {
    await store.close()
    throw error
  }
}

/** The bundles beside the configured one. */
function bundleShelf(config: Config, log: FastifyBaseLogger): BundleShelf {
  return {
    fingerprintOf: async (name) => {
      try {
        return (await verifyBundle(besides(config, name))).fingerprint
      } catch (error) {
        if (error instanceof BundleError) throw new TandemError('bundle_unusable', error.message, { cause: error })
        throw error
      }
    },
    open: (name, store) => openBundle(config, log, besides(config, name), store),
    discard: (fingerprint) => rm(indexFolder(config.dataFolder, fingerprint), { recursive: true, force: true }),
  }
}

/**
 * The folder of a bundle, by its bare name.
 * @throws BundleError for anything that is not one: what leads out of the folder of bundles is not looked at
 */
function besides({ modelFolder }: Config, name: string): string {
  if (!/^\w[\w.-]{0,99}$/.test(name)) {
    throw new BundleError(`${JSON.stringify(name)} is not the bare name of a bundle, a folder beside ${modelFolder}.`)
  }
  return join(dirname(modelFolder), name)
}

/** @param formerFolder - where an earlier version kept the index of the only bundle */
async function openBundle(
  config: Config,
  log: FastifyBaseLogger,
  folder: string,
  store: ItemStore,
  formerFolder?: string,
): Promise<Rooms> {
  const { dataFolder, vectorIndex } = config
  const report = (sentence: string): void => log.error(sentence)
  const note = (sentence: string): void => log.info(sentence)
  const models = await openModels({ ...modelSettings(config), folder, report, note })
  try {
    const { fingerprint, dim, name, version } = models.info
    log.info({ bundle: name, version, fingerprint }, 'the model is open')
    if (fingerprint !== store.fingerprint) {
      throw new BundleError(`The bundle in ${folder} has the fingerprint ${fingerprint}; expected ${store.fingerprint}.`)
    }
    const index = await openVectorIndex({
      kind: vectorIndex,
      folder: indexFolder(dataFolder, fingerprint),
      ...(formerFolder === undefined ? {} : { formerFolder }),
      dim,
      fingerprint,
      storeIdentity: store.identity,
      report,
    })
    if (index.discarded !== null) log.warn(index.discarded)
    return { models, store, index }
  } catch (error) {
    await models.close()
    throw error
  }
}

/** What every bundle is opened with. */
export function modelSettings(config: Config): Omit<ModelsOptions, 'folder'> {
  const { inferenceThreads, maxImagePixels, executionProviders: providers, gpuDevices: devices } = config
  return { inferenceThreads, maxImagePixels, providers, devices }
}

function indexFolder(dataFolder: string, fingerprint: string): string {
  return join(dataFolder, 'index', fingerprint)
}

/** Of bundles that stood by once; a service that was killed may have left them. */
async function removeOtherIndexes(dataFolder: string, fingerprints: readonly string[]): Promise<void> {
  const names = await readdir(join(dataFolder, 'index')).catch(() => [])
  const others = names.filter((name) => /^[0-9a-f]{16}$/.test(name) && !fingerprints.includes(name))
  await Promise.all(others.map((name) => rm(indexFolder(dataFolder, name), { recursive: true })))
}
