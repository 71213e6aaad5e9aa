/** A data folder of a service with many items, made once and reused. */
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { openItemStore } from '../src/item-store/open.js'
import { openVectorIndex } from '../src/vector-index/open.js'
import { openBundle } from '../src/model/bundle/open.js'
import { row, type Vectors } from './vectors.js'

const AT_ONCE = 1000
/** A minimal JPEG: no benchmark reads stored images. */
const IMAGE = { bytes: new Uint8Array(1), mime: 'image/jpeg', width: 512, height: 384 }

export interface Filled {
  /** Value of TANDEM_DATA_DIR. */
  data: string
  items: { id: string; payload: { title: string } }[]
}

/**
 * One item for each of `vectors`, with image tokens of the bundle's size.
 * @param place - of the folder; an incomplete folder of a killed run is not used
 */
export async function filledFolder(
  bundle: string,
  vectors: Vectors,
  place: string,
): Promise<Filled> {
  const items = Array.from({ length: vectors.count }, (_, at) => ({
    id: `photo-${at}`,
    payload: { title: `Photo ${at} of the benchmark` },
  }))
  if (existsSync(place)) return { data: place, items }
  const unfinished = `${place}.new`
  await rm(unfinished, { recursive: true, force: true })
  await mkdir(unfinished, { recursive: true })
  const { fingerprint, manifest } = await openBundle(bundle)
  const { count = 0, width = 0 } = manifest.image_tokens ?? {}
  const store = await openItemStore({ folder: join(unfinished, 'items'), fingerprint })
  try {
    const folder = join(unfinished, 'index', fingerprint)
    const index = await openVectorIndex({
      kind: 'hnsw',
      folder,
      dim: vectors.dim,
      fingerprint,
      storeIdentity: store.identity,
    })
    try {
      for (let from = 0; from < items.length; from += AT_ONCE) {
        const some = items
          .slice(from, from + AT_ONCE)
          .map((item, at) => ({ ...item, embedding: row(vectors, from + at) }))
        const { position } = await store.put(
          some.map((one) => ({
            ...one,
            image: IMAGE,
            imageTokens: new Int8Array(count * width),
          })),
        )
        await index.upsert(some, position)
      }
      await index.save()
    } finally {
      await index.close()
    }
  } finally {
    await store.close()
  }
  await rename(unfinished, place)
  return { data: place, items }
}
