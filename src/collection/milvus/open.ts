/** Where the settings say that shared items are: rows in Milvus, and images in an image store. */
import type { Config } from '../../config.js'
import type { MilvusOptions } from './milvus.js'
import { openImageStore, type ImageStore } from '../../image-store/image-store.js'

/** @throws Error with a sentence that says which setting is missing or takes something else */
export function checkSharedPlace({ milvusAddress, milvusCollection, imageStore }: Config): void {
  const purpose = 'The items are to be in Milvus'
  if (milvusAddress === '')
    throw new Error(`${purpose}; expected an address in MILVUS_ADDRESS, such as 127.0.0.1:19530.`)
  if (!/^[A-Za-z_]\w{0,254}$/.test(milvusCollection)) {
    throw new Error(
      `MILVUS_COLLECTION takes letters, digits and underscores, at most 255, the first no digit, not "${milvusCollection}".`,
    )
  }
  if (imageStore !== undefined) return
  throw new Error(
    `${purpose}; expected a place for images in IMAGE_STORE that all services reach: a folder, or s3://bucket/prefix.`,
  )
}

/**
 * Opens the images, and says how to connect to the rows.
 *
 * @param bundle - that encodes the items
 * @param report - told, as a sentence for the log, what happens to the connection
 * @throws as checkSharedPlace, and what the image store says of its place
 */
export async function openSharedPlace(
  config: Config,
  { fingerprint, dim }: { fingerprint: string; dim: number },
  report: (sentence: string) => void,
): Promise<{ milvus: MilvusOptions; images: ImageStore }> {
  checkSharedPlace(config)
  const { imageStore, s3Endpoint: endpoint, s3Region: region, imageStoreTimeoutMs } = config
  const place = imageStore as NonNullable<typeof imageStore>
  const images = await openImageStore({
    place,
    // Without a name the database is the one of this name.
    collection: `${config.milvusDatabase || 'default'}.${config.milvusCollection}`,
    endpoint,
    region,
    timeoutMs: imageStoreTimeoutMs,
  })
  const milvus = {
    address: config.milvusAddress,
    token: config.milvusToken || undefined,
    database: config.milvusDatabase || undefined,
    collection: config.milvusCollection,
    consistency: config.milvusConsistency,
    timeoutMs: config.milvusTimeoutMs,
    fingerprint,
    dim,
    images,
    report,
  }
  return { milvus, images }
}
