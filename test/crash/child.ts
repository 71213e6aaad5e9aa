/**
 * The process that is killed: the pipeline over a real store and index, with made models, asked by
 * messages. Arguments: the data folder; the configured bundle; `--hasty` acknowledges before it
 * writes, to see that the check would notice.
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
  madeImage,
  MadeModels,
  madePayload,
  type BundleName,
} from './made-models.js'

export interface FoundItem {
  id: string
  version: number
  digest: string
}

/** Everything that a start found. */
export interface State {
  serving: BundleName
  items: FoundItem[]
  /** Items that the next bundle has encoded, and its lag; null without a next bundle. */
  next: { items: FoundItem[]; lag: number } | null
  /** Ids in the order of their last changes, as the index would be given them. */
  replay: string[]
  size: number
  indexed: string[]
}

/** Every question and what it is answered with. */
export interface Questions {
  add: { ask: { id: string; version: number }; answer: null }
  remove: { ask: { id: string }; answer: null }
  save: { ask: null; answer: null }
  /** Similar to an image that is not stored, all items being candidates. */
  search: { ask: { id: string; k: number }; answer: { id: string; similarity: number }[] }
  'start-reembedding': { ask: { name: BundleName }; answer: null }
  promote: { ask: null; answer: null }
  'end-reembedding': { ask: null; answer: null }
  /** Kills the process of the index, which the service has to survive. */
  'kill-index': { ask: null; answer: null }
}

export type Asked = {
  [Name in keyof Questions]: { number: number; name: Name; ask: Questions[Name]['ask'] }
}[keyof Questions]
/** An error is said with its code, where it has one. */
export type Said =
  { state: State } | { number: number; answer: unknown } | { number: number; error: string }

/** The largest that a search takes: more than there are items here. */
const ALL_CANDIDATES = 1000

const [folder = '', configured = 'made-a', manner] = process.argv.slice(2) as [
  string,
  BundleName,
  string?,
]

async function generationOf(name: BundleName, store: ItemStore): Promise<Generation> {
  const models = new MadeModels(name)
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
// As the service does (src/collection/embedded/generation.ts): a process that was killed may have
// left the index of a next bundle.
const stamped = [store.bundles.serving, store.bundles.next].map((bundle) => bundle?.fingerprint)
for (const name of await readdir(join(folder, 'index')).catch(() => [])) {
  if (!stamped.includes(name)) await catalog.discard(name)
}
const serving = store.bundles.serving.name as BundleName
const { index, ...others } = await generationOf(serving, store)
const collection = new EmbeddedCollection({ ...others, index }, catalog)
const retrieval = new Retrieval(collection)
await retrieval.start()

function itemsIn(view: ItemStore): FoundItem[] {
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

function stateNow(): State {
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

async function answer(asked: Asked): Promise<unknown> {
  switch (asked.name) {
    case 'add': {
      const { id, version } = asked.ask
      return retrieval.add({ id, image: madeImage(id, version), payload: madePayload(id, version) })
    }
    case 'remove':
      return retrieval.remove(asked.ask.id)
    case 'save':
      return retrieval.save()
    case 'search': {
      const { id, k } = asked.ask
      const { hits } = await retrieval.search(
        { image: madeImage(id, 0) },
        { k, candidates: ALL_CANDIDATES },
      )
      return hits.map((hit) => ({ id: hit.id, similarity: hit.similarity }))
    }
    case 'start-reembedding':
      return collection.maintenance.reembedder.start(asked.ask.name)
    case 'promote':
      return collection.maintenance.reembedder.promote()
    case 'end-reembedding':
      return collection.maintenance.reembedder.end()
    case 'kill-index':
      for (const { pid } of index.workers) if (pid !== null) process.kill(pid, 'SIGKILL')
      return null
  }
}

const say = (said: Said): void => void process.send?.(said)

process.on('message', (asked: Asked) => {
  const { number } = asked
  if (manner === '--hasty' && asked.name !== 'search') say({ number, answer: null })
  answer(asked).then(
    (given) => say({ number, answer: asked.name === 'search' ? given : null }),
    (error: Error & { code?: string }) =>
      say({ number, error: `${error.code ?? error.name}: ${error.message}` }),
  )
})
process.on('disconnect', () => process.exit())
say({ state: stateNow() })
