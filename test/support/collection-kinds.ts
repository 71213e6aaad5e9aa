/** Opens an empty collection of each kind that stores items, for suites over all kinds. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Collection } from '../../src/collection/collection.js'
import type { NewItem } from '../../src/item-store/item-store.js'
import { EmbeddedCollection } from '../../src/collection/embedded/embedded.js'
import { SharedCollection } from '../../src/collection/milvus/shared.js'
import { openItemStore } from '../../src/item-store/open.js'
import { connectMilvus } from '../../src/collection/milvus/items.js'
import { openImageStore } from '../../src/image-store/open.js'
import { openVectorIndex } from '../../src/vector-index/open.js'
import { hasMilvus, Milvus, withoutMilvus } from './milvus.js'
import { randomEmbeddings } from './random-embeddings.js'
import { emptyCatalog } from './test-service.js'
import { WordModels } from './word-models.js'

export const { fingerprint, dim } = new WordModels().info
export const embeddings = randomEmbeddings(400, dim)

export interface Opened {
  collection: Collection
  end(): Promise<void>
}

async function openLocal(kind: 'hnsw' | 'exact'): Promise<Opened> {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-collection-'))
  const store = await openItemStore({ folder: join(folder, 'items'), fingerprint })
  const index = await openVectorIndex({
    kind,
    folder: join(folder, 'index'),
    dim,
    fingerprint,
    storeIdentity: store.identity,
  })
  const collection = new EmbeddedCollection(
    { models: new WordModels(), index, store },
    emptyCatalog,
  )
  const end = async (): Promise<void> => {
    await collection.close()
    await rm(folder, { recursive: true, force: true })
  }
  return { collection, end }
}

async function openInMilvus(): Promise<Opened> {
  const milvus = await Milvus.start()
  const folder = await mkdtemp(join(tmpdir(), 'tandem-images-'))
  const images = await openImageStore({
    place: { folder },
    collection: 'default.tandem',
    timeoutMs: 5000,
  })
  const items = connectMilvus({ ...milvus.settings, fingerprint, dim, images })
  const collection = new SharedCollection(new WordModels(), items, () => images.close())
  const end = async (): Promise<void> => {
    await collection.close()
    await milvus.end()
    await rm(folder, { recursive: true, force: true })
  }
  return { collection, end }
}

const all = [
  { kind: 'embedded, with hnsw', open: () => openLocal('hnsw'), isMissing: false },
  { kind: 'embedded, with exact search', open: () => openLocal('exact'), isMissing: false },
  { kind: `in Milvus ${withoutMilvus}`, open: openInMilvus, isMissing: !hasMilvus },
]

/** The kinds that can run on this machine. */
export const kinds = all.filter(({ isMissing }) => !isMissing)

/** @param at - determines the embedding, the image and the tokens */
export const itemOf = (id: string, at: number, payload: NewItem['payload'] = { at }): NewItem => ({
  id,
  payload,
  embedding: embeddings[at] as Float32Array,
  imageTokens: Int8Array.from({ length: 600 }, (_, i) => (((at + 1) * (i + 1)) % 256) - 128),
  image: {
    bytes: Uint8Array.from({ length: 900 }, (_, i) => (at + i) % 256),
    mime: 'image/jpeg',
    width: 40,
    height: 30 + at,
  },
})
