/** Where the settings say that shared items are: rows in Milvus, and pictures in a picture store. */
import type { Config } from '../../config.js'
import type { MilvusOptions } from './milvus.js'
import { openPictureStore, type PictureStore } from '../../image-store/image-store.js'

/** @throws Error with a sentence that says which setting is missing or takes something else */
export function checkSharedPlace({ milvusAddress, milvusCollection, pictureStore }: Config): void {
  const purpose = 'The items are to be in Milvus'
  if (milvusAddress === '')
    throw new Error(`${purpose}; expected an address in MILVUS_ADDRESS, such as 127.0.0.1:19530.`)
  if (!/^[A-Za-z_]\w{0,254}$/.test(milvusCollection)) {
    throw new Error(
      `MILVUS_COLLECTION takes letters, digits and underscores, at most 255, the first no digit, not "${milvusCollection}".`,
    )
  }
  if (pictureStore !== undefined) return
  throw new Error(
    `${purpose}; expected a place for pictures in PICTURE_STORE that all services reach: a folder, or s3://bucket/prefix.`,
  )
}

/**
 * Opens the pictures, and says how to connect to the rows.
 *
 * @param bundle - that encodes the items
 * @param report - told, as a sentence for the log, what happens to the connection
 * @throws as checkSharedPlace, and what the picture store says of its place
 */
export async function openSharedPlace(
  config: Config,
  { fingerprint, dim }: { fingerprint: string; dim: number },
  report: (sentence: string) => void,
): Promise<{ milvus: MilvusOptions; pictures: PictureStore }> {
  checkSharedPlace(config)
  const { pictureStore, s3Endpoint: endpoint, s3Region: region, pictureStoreTimeoutMs } = config
  const place = pictureStore as NonNullable<typeof pictureStore>
  const pictures = await openPictureStore({
    place,
    // Without a name the database is the one of this name.
    collection: `${config.milvusDatabase || 'default'}.${config.milvusCollection}`,
    endpoint,
    region,
    timeoutMs: pictureStoreTimeoutMs,
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
    pictures,
    report,
  }
  return { milvus, pictures }
}
