/**
 * The process that is killed: the pipeline over a real store and index, with fake models,
 * controlled by messages. Arguments: the data folder; the configured bundle;
 * `--early-acknowledgement` replies before it writes, which shows that the check notices lost
 * writes.
 */
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { BundleCatalog } from '../../src/collection/embedded/bundle-catalog.js'
import { EmbeddedCollection } from '../../src/collection/embedded/embedded.js'
import type { Generation } from '../../src/collection/embedded/generation.js'
import type { ItemStore } from '../../src/item-store/item-store.js'
import { openItemStore } from '../../src/item-store/open.js'
import { Retrieval } from '../../src/retrieval/retrieval.js'
import { openVectorIndex } from '../../src/vector-index/open.js'
import {
  digestOf,
  fingerprints,
  fakeImage,
  FakeModels,
  fakePayload,
  type BundleName,
} from './fake-models.js'

export interface ItemState {
  id: string
  version: number
  digest: string
}

/** Content of the store and index after a start. */
export interface State {
  serving: BundleName
  items: ItemState[]
  /** Items that the next bundle has encoded, and its lag; null without a next bundle. */
  next: { items: ItemState[]; lag: number } | null
  /** Ids in the order of their last changes, as an index would be built from them. */
  replay: string[]
  size: number
  indexed: string[]
}

/** Parameters and result of each request. */
export interface Requests {
  add: { parameters: { id: string; version: number }; result: null }
  remove: { parameters: { id: string }; result: null }
  save: { parameters: null; result: null }
  /** By an image that is not stored; all items are candidates. */
  search: { parameters: { id: string; k: number }; result: { id: string; similarity: number }[] }
  'start-reembedding': { parameters: { name: BundleName }; result: null }
  promote: { parameters: null; result: null }
  'end-reembedding': { parameters: null; result: null }
  /** Kills the process of the index, which the service must survive. */
  'kill-index': { parameters: null; result: null }
}

export type Request = {
  [Name in keyof Requests]: {
    number: number
    name: Name
    parameters: Requests[Name]['parameters']
  }
}[keyof Requests]
/** An error includes its code, if it has one. */
export type Message =
  { state: State } | { number: number; result: unknown } | { number: number; error: string }

/** The largest number that a search accepts; the test has fewer items. */
const ALL_CANDIDATES = 1000

const [folder = '', configured = 'bundle-a', mode] = process.argv.slice(2) as [
  string,
  BundleName,
  string?,
]

async function generationOf(name: BundleName, store: ItemStore): Promise<Generation> {
  const models = new FakeModels(name)
  const { dim, fingerprint } = models.info
  const place = {
    folder: join(folder, 'index', fingerprint),
    dim,
    fingerprint,
    storeIdentity: store.identity,
  }
  return { models, store, index: await openVectorIndex({ kind: 'hnsw', ...place }) }
}

const catalog: BundleCatalog = {
  fingerprintOf: (name) => Promise.resolve(fingerprints[name as BundleName]),
  open: (name, store) => generationOf(name as BundleName, store),
  discard: (fingerprint) =>
    rm(join(folder, 'index', fingerprint), { recursive: true, force: true }),
}
const store = await openItemStore({
  folder: join(folder, 'items'),
  name: configured,
  fingerprint: fingerprints[configured],
})
// Like the service (src/collection/embedded/generation.ts): a killed process may have left the
// index of a next bundle.
const stamped = [store.bundles.serving, store.bundles.next].map((bundle) => bundle?.fingerprint)
for (const name of await readdir(join(folder, 'index')).catch(() => [])) {
  if (!stamped.includes(name)) await catalog.discard(name)
}
const serving = store.bundles.serving.name as BundleName
const { index, ...others } = await generationOf(serving, store)
const collection = new EmbeddedCollection({ ...others, index }, catalog)
const retrieval = new Retrieval(collection)
await retrieval.start()

function itemsIn(view: ItemStore): ItemState[] {
  return view
    .list({ limit: ALL_CANDIDATES })
    .map(({ id, payload, embedding, imageTokens, image }) => {
      const { mime, width, height } = image
      const bytes = store.image(id) ?? new Uint8Array(0)
      const digest = digestOf(payload, {
        embedding,
        imageTokens,
        image: { bytes, mime: mime as 'image/jpeg', width, height },
      })
      return { id, version: payload?.['version'] as number, digest }
    })
}

function currentState(): State {
  const { next } = store.bundles
  const view = next === null ? null : store.bundles.view(next.fingerprint)
  return {
    serving,
    items: itemsIn(store),
    next: view === null ? null : { items: itemsIn(view), lag: view.lag },
    replay: [...store.since(0)].map(({ id }) => id),
    size: store.size,
    indexed: [...index.ids()],
  }
}

async function handle(request: Request): Promise<unknown> {
  switch (request.name) {
    case 'add': {
      const { id, version } = request.parameters
      return retrieval.add({ id, image: fakeImage(id, version), payload: fakePayload(id, version) })
    }
    case 'remove':
      return retrieval.remove(request.parameters.id)
    case 'save':
      return retrieval.save()
    case 'search': {
      const { id, k } = request.parameters
      const { hits } = await retrieval.search(
        { image: fakeImage(id, 0) },
        { k, candidates: ALL_CANDIDATES },
      )
      return hits.map((hit) => ({ id: hit.id, similarity: hit.similarity }))
    }
    case 'start-reembedding':
      return collection.maintenance.reembedder.start(request.parameters.name)
    case 'promote':
      return collection.maintenance.reembedder.promote()
    case 'end-reembedding':
      return collection.maintenance.reembedder.end()
    case 'kill-index':
      for (const { pid } of index.workers) if (pid !== null) process.kill(pid, 'SIGKILL')
      return null
  }
}

const send = (message: Message): void => void process.send?.(message)

process.on('message', (request: Request) => {
  const { number, name } = request
  if (mode === '--early-acknowledgement' && name !== 'search') send({ number, result: null })
  handle(request).then(
    (result) => send({ number, result: name === 'search' ? result : null }),
    (error: Error & { code?: string }) =>
      send({ number, error: `${error.code ?? error.name}: ${error.message}` }),
  )
})
process.on('disconnect', () => process.exit())
send({ state: currentState() })
