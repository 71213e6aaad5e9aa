/** Opens the kind of collection that the settings name. */
import type { BaseLogger } from 'pino'
import type { Config } from '../config.js'
import { lockDataFolder } from '../files/lock.js'
import { BundleError } from '../model/bundle/bundle.js'
import { openServedModels } from '../model/open.js'
import type { Collection } from './collection.js'
import { folderCatalog, noBundles } from './embedded/bundle-catalog.js'
import { EmbeddedCollection } from './embedded/embedded.js'
import {
  openRemoteGeneration,
  openServingGeneration,
  type GenerationOptions,
} from './embedded/generation.js'
import { EncodeOnlyCollection } from './encode-only.js'

/**
 * Opens the collection of a service. An embedded one locks its data folder until it is closed.
 *
 * @throws Error with a sentence for the terminal; resources opened before are closed
 */
export async function openCollection(
  config: Config,
  log: Pick<BaseLogger, 'info' | 'warn' | 'error'>,
): Promise<Collection> {
  if (config.role === 'encode') {
    const models = await openServedModels(config, log)
    if (models.encodeTokens === undefined) return new EncodeOnlyCollection(models)
    await models.close()
    throw new BundleError(
      `${models.info.name} computes image tokens when it reranks, from images that a service with TANDEM_ROLE=encode does not have; expected a bundle that stores them.`,
    )
  }
  if (config.vectorIndex === 'milvus') {
    // Loaded on demand: the client is large.
    const { openSharedCollection } = await import('./milvus/open.js')
    return openSharedCollection(config, log)
  }
  const { dataFolder, modelFolder, encoderUrl = '' } = config
  const options: GenerationOptions = {
    dataFolder,
    modelFolder,
    indexKind: config.vectorIndex,
    openModels: (folder) => openServedModels(config, log, folder),
    log,
  }
  const lock = await lockDataFolder(dataFolder, 'a Tandem service')
  if (lock.remark !== null) log.warn(lock.remark)
  const release = (): Promise<void> => lock.release()
  try {
    if (config.role === 'search') {
      const models = await openServedModels(config, log)
      const generation = await openRemoteGeneration(options, models, encoderUrl)
      return new EmbeddedCollection(generation, noBundles, release)
    }
    const generation = await openServingGeneration(options)
    return new EmbeddedCollection(generation, folderCatalog(options), release)
  } catch (error) {
    await lock.release()
    throw error
  }
}
