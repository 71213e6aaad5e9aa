/** Where the settings say that shared items are: rows in Milvus, and images in an image store. */
import type { Config } from '../../config.js'
import type { MilvusOptions } from './milvus.js'
import { openImageStore, type ImageStore } from '../../image-store/image-store.js'

/** For one call of Milvus, retries included. */
const MILVUS_TIMEOUT_MS = 5000

/** @throws Error with a sentence that says which setting is missing or takes something else */
export function checkSharedPlace({ milvusAddress, imageStore }: Config): void {
  const purpose = 'The items are to be in Milvus'
  if (milvusAddress === '')
    throw new Error(`${purpose}; expected an address in MILVUS_ADDRESS, such as 127.0.0.1:19530.`)
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
  const { imageStore, s3Endpoint: endpoint, s3Region: region } = config
  const place = imageStore as NonNullable<typeof imageStore>
  const images = await openImageStore({
    place,
    // Without a name the database is the one of this name.
    collection: `${config.milvusDatabase || 'default'}.${config.milvusCollection}`,
    endpoint,
    region,
  })
  const milvus = {
    address: config.milvusAddress,
    token: config.milvusToken || undefined,
    database: config.milvusDatabase || undefined,
    collection: config.milvusCollection,
    // What one service acknowledges, the others must find at once.
    consistency: 'strong' as const,
    timeoutMs: MILVUS_TIMEOUT_MS,
    fingerprint,
    dim,
    images,
    report,
  }
  return { milvus, images }
}
