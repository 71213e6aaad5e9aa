/** Opens the shared collection that the settings describe: rows in Milvus, images in a store. */
import type { BaseLogger } from 'pino'
import type { Config } from '../../config.js'
import type { ImageStore } from '../../image-store/image-store.js'
import { openImageStore } from '../../image-store/open.js'
import { openServedModels } from '../../model/open.js'
import type { Collection } from '../collection.js'
import { connectMilvus } from './items.js'
import type { MilvusOptions } from './milvus.js'
import { SharedCollection } from './shared.js'

/** For one call of Milvus, retries included. */
const MILVUS_TIMEOUT_MS = 5000

/** @throws Error with a sentence for the terminal */
export async function openSharedCollection(
  config: Config,
  log: Pick<BaseLogger, 'info' | 'warn' | 'error'>,
): Promise<Collection> {
  checkSettings(config)
  const models = await openServedModels(config, log)
  try {
    const { milvus, images } = await openSharedPlace(config, models.info, (sentence) =>
      log.warn(sentence),
    )
    return new SharedCollection(models, connectMilvus(milvus), () => images.close())
  } catch (error) {
    await models.close()
    throw error
  }
}

/**
 * Opens the image store, and gives the options to connect to Milvus.
 *
 * @param bundle - that encodes the items
 * @param report - called with sentences for the log about the connection
 * @throws Error that names the setting that is missing or wrong; those of the image store
 */
export async function openSharedPlace(
  config: Config,
  { fingerprint, dim }: { fingerprint: string; dim: number },
  report: (sentence: string) => void,
): Promise<{ milvus: MilvusOptions; images: ImageStore }> {
  checkSettings(config)
  const { imageStore, s3Endpoint: endpoint, s3Region: region } = config
  const images = await openImageStore({
    place: imageStore as NonNullable<typeof imageStore>,
    // An unnamed database is the one called "default".
    collection: `${config.milvusDatabase || 'default'}.${config.milvusCollection}`,
    endpoint,
    region,
  })
  const milvus = {
    address: config.milvusAddress,
    token: config.milvusToken || undefined,
    database: config.milvusDatabase || undefined,
    collection: config.milvusCollection,
    timeoutMs: MILVUS_TIMEOUT_MS,
    fingerprint,
    dim,
    images,
    report,
  }
  return { milvus, images }
}

function checkSettings({ milvusAddress, imageStore }: Config): void {
  const purpose = 'VECTOR_INDEX is milvus'
  if (milvusAddress === '')
    throw new Error(`${purpose}; expected an address in MILVUS_ADDRESS, such as 127.0.0.1:19530.`)
  if (imageStore !== undefined) return
  throw new Error(
    `${purpose}; expected in IMAGE_STORE a place for images that all services reach: a folder, or s3://bucket/prefix.`,
  )
}
