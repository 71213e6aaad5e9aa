/**
 * Opens the collection that the settings name: for the embedded one the rooms of the bundle that
 * serves, and later those of another bundle that is to take their place.
 */
import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { FastifyBaseLogger } from 'fastify'
import {
  openEmbedded,
  openItemless,
  openShared,
  type BundleShelf,
  type Collection,
  type Rooms,
} from '../collection.js'
import type { Config } from '../../config.js'
import { lockDataFolder } from '../../files/lock.js'
import { TandemError } from '../../errors.js'
import { openItemStore, type ItemStore } from '../../item-store/item-store.js'
import { BundleError, verifyBundle, type Models } from '../../model/models.js'
import { openServedModels } from '../../model/open.js'
import { checkSharedPlace, openSharedPlace } from '../milvus/open.js'
import { openVectorIndex } from '../../vector-index/open.js'

/**
 * The collection of a service. An embedded one holds its data folder until it is closed.
 *
 * @throws with a sentence fit for a terminal; what was opened until then is closed again
 */
export async function openCollection(config: Config, log: FastifyBaseLogger): Promise<Collection> {
  if (config.role === 'encode') return openItemless(await openServedModels(config, log))
  if (config.vectorIndex === 'milvus') return openSharedCollection(config, log)
  const lock = await lockDataFolder(config.dataFolder, 'a Tandem service')
  if (lock.remark !== null) log.warn(lock.remark)
  try {
    const rooms =
      config.role === 'search'
        ? await openRoomsOfEncoder(config, log)
        : await openRooms(config, log)
    const shelf = config.role === 'search' ? noShelf : bundleShelf(config, log)
    return openEmbedded(rooms, shelf, () => lock.release())
  } catch (error) {
    await lock.release()
    throw error
  }
}

/** The configured bundle, then the images, then the items. */
async function openSharedCollection(config: Config, log: FastifyBaseLogger): Promise<Collection> {
  checkSharedPlace(config)
  // The client is large, and whoever keeps the items here does without it.
  const { connectMilvus } = await import('../milvus/milvus.js')
  const models = await openServedModels(config, log)
  try {
    const { milvus, images } = await openSharedPlace(config, models.info, (sentence) =>
      log.warn(sentence),
    )
    return openShared(models, connectMilvus(milvus), () => images.close())
  } catch (error) {
    await models.close()
    throw error
  }
}

/**
 * The configured bundle, then the store, which knows the bundle that serves, then its models and
 * its index.
 */
async function openRooms(config: Config, log: FastifyBaseLogger): Promise<Rooms> {
  const { modelFolder, dataFolder } = config
  const { fingerprint } = await verifyBundle(modelFolder)
  const name = basename(modelFolder)
  const store = await openStore(config, log, { fingerprint, name })
  try {
    const { serving, standby } = store.bundles
    const isSwitched = serving.fingerprint !== fingerprint
    if (isSwitched) {
      log.warn(
        { configured: name, serving: serving.name, fingerprint: serving.fingerprint },
        `TANDEM_MODEL names ${name}, but the items have been switched to ${serving.name}: that serves`,
      )
    }
    await removeOtherIndexes(dataFolder, [
      serving.fingerprint,
      ...(standby === null ? [] : [standby.fingerprint]),
    ])
    const folder = isSwitched ? besides(config, serving.name ?? '') : modelFolder
    return await openBundle(config, log, folder, store, join(dataFolder, 'index'))
  } catch (error) {
    await store.close()
    throw error
  }
}

/**
 * The encoder, which knows its bundle, then the store of items that this bundle has encoded, then
 * the index.
 */
async function openRoomsOfEncoder(config: Config, log: FastifyBaseLogger): Promise<Rooms> {
  const { dataFolder, encoderUrl } = config
  const models = await openServedModels(config, log)
  const { fingerprint } = models.info
  const store = await openStore(config, log, { fingerprint }).catch(async (error: unknown) => {
    await models.close()
    throw error
  })
  try {
    return await withIndex(
      config,
      log,
      models,
      `The bundle of the encoder at ${encoderUrl}`,
      store,
      join(dataFolder, 'index'),
    )
  } catch (error) {
    await store.close()
    throw error
  }
}

function openStore(
  { dataFolder }: Config,
  log: FastifyBaseLogger,
  bundle: { fingerprint: string; name?: string },
): Promise<ItemStore> {
  const onMigration = (items: number): void =>
    log.info({ items }, 'items are moved to the present format')
  return openItemStore({ folder: join(dataFolder, 'items'), ...bundle, onMigration })
}

/** A service that only searches has no bundle to change to. */
const noShelf: BundleShelf = {
  fingerprintOf: () => Promise.reject(noBundles()),
  open: () => Promise.reject(noBundles()),
  discard: () => Promise.resolve(),
}

function noBundles(): TandemError {
  const sentence =
    'This service has no bundle of its own (TANDEM_ROLE=search): stop it and its encoder, and change the bundle with TANDEM_ROLE=all.'
  return new TandemError('not_supported', sentence)
}

/** The bundles beside the configured one. */
function bundleShelf(config: Config, log: FastifyBaseLogger): BundleShelf {
  return {
    fingerprintOf: async (name) => {
      try {
        return (await verifyBundle(besides(config, name))).fingerprint
      } catch (error) {
        if (error instanceof BundleError)
          throw new TandemError('bundle_unusable', error.message, { cause: error })
        throw error
      }
    },
    open: (name, store) => openBundle(config, log, besides(config, name), store),
    discard: (fingerprint) =>
      rm(indexFolder(config.dataFolder, fingerprint), { recursive: true, force: true }),
  }
}

/**
 * The folder of a bundle, by its bare name.
 * @throws BundleError for anything that is not one: what leads out of the folder of bundles is not
 *   looked at
 */
function besides({ modelFolder }: Config, name: string): string {
  if (!/^\w[\w.-]{0,99}$/.test(name)) {
    throw new BundleError(
      `${JSON.stringify(name)} is not the bare name of a bundle, a folder beside ${modelFolder}.`,
    )
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
  return withIndex(
    config,
    log,
    await openServedModels(config, log, folder),
    `The bundle in ${folder}`,
    store,
    formerFolder,
  )
}

/**
 * @param whence - what a sentence says of where the models are from; they are closed where their
 * index cannot be opened
 */
async function withIndex(
  config: Config,
  log: FastifyBaseLogger,
  models: Models,
  whence: string,
  store: ItemStore,
  formerFolder?: string,
): Promise<Rooms> {
  const { dataFolder, vectorIndex } = config
  if (vectorIndex === 'milvus')
    throw new Error('an index of this process was asked for, and VECTOR_INDEX is milvus')
  try {
    const { fingerprint, dim } = models.info
    if (fingerprint !== store.fingerprint) {
      throw new BundleError(
        `${whence} has the fingerprint ${fingerprint}; expected ${store.fingerprint}, that of the items.`,
      )
    }
    const index = await openVectorIndex({
      kind: vectorIndex,
      folder: indexFolder(dataFolder, fingerprint),
      ...(formerFolder === undefined ? {} : { formerFolder }),
      dim,
      fingerprint,
      storeIdentity: store.identity,
      report: (sentence) => log.error(sentence),
    })
    if (index.discarded !== null) log.warn(index.discarded)
    return { models, store, index }
  } catch (error) {
    await models.close()
    throw error
  }
}

function indexFolder(dataFolder: string, fingerprint: string): string {
  return join(dataFolder, 'index', fingerprint)
}

/** Of bundles that stood by once; a service that was killed may have left them. */
async function removeOtherIndexes(
  dataFolder: string,
  fingerprints: readonly string[],
): Promise<void> {
  const names = await readdir(join(dataFolder, 'index')).catch(() => [])
  const others = names.filter((name) => /^[0-9a-f]{16}$/.test(name) && !fingerprints.includes(name))
  await Promise.all(others.map((name) => rm(indexFolder(dataFolder, name), { recursive: true })))
}
