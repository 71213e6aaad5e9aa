/**
 * The process that is killed: the pipeline over a real store and index, with made models, asked by messages.
 * Arguments: the data folder; `--hasty` acknowledges before it writes, to see that the check would notice.
 */
import { join } from 'node:path'
import { openItemStore } from '../../src/item-store.js'
import { Retrieval } from '../../src/retrieval.js'
import { openVectorIndex } from '../../src/vector-index.js'
import { digestOf, madeImage, madeInfo, MadeModels, madePayload } from './made-models.js'

/** Everything that a start found. */
export interface State {
  items: { id: string; version: number; digest: string }[]
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
  /** Similar to a picture that is not stored, all items being candidates. */
  search: { ask: { id: string; k: number }; answer: { id: string; similarity: number }[] }
}

export type Asked = { [Name in keyof Questions]: { number: number; name: Name; ask: Questions[Name]['ask'] } }[keyof Questions]
export type Said = { state: State } | { number: number; answer: unknown } | { number: number; error: string }

/** The largest that a search takes: more than there are items here. */
const ALL_CANDIDATES = 1000

const [folder = '', manner] = process.argv.slice(2)
const { dim, fingerprint } = madeInfo
const store = await openItemStore({ folder: join(folder, 'items'), fingerprint })
const place = { folder: join(folder, 'index', fingerprint), dim, fingerprint, storeIdentity: store.identity }
const index = await openVectorIndex({ kind: 'hnsw', ...place })
const noBundle = (): Promise<never> => Promise.reject(new Error('there is no other bundle'))
const shelf = { fingerprintOf: noBundle, open: noBundle, discard: noBundle }
const retrieval = new Retrieval({ models: new MadeModels(), store, index }, shelf)
await retrieval.start()

function stateNow(): State {
  const items = store.list({ limit: store.size + 1 }).map(({ id, payload, embedding, imageTokens, picture }) => {
    const { mime, width, height } = picture
    const bytes = store.picture(id) ?? new Uint8Array(0)
    const digest = digestOf(payload, { embedding, imageTokens, picture: { bytes, mime: mime as 'image/jpeg', width, height } })
    return { id, version: payload?.['version'] as number, digest }
  })
  return { items, replay: [...store.since(0)].map(({ id }) => id), size: store.size, indexed: [...index.ids()] }
}

async function answer(asked: Asked): Promise<unknown> {
  switch (asked.name) {
    case 'add': {
      const { id, version } = asked.ask
      await retrieval.add({ id, image: madeImage(id, version), payload: madePayload(id, version) })
      return null
    }
    case 'remove':
      await retrieval.remove(asked.ask.id)
      return null
    case 'save':
      await retrieval.save()
      return null
    case 'search': {
      const { id, k } = asked.ask
      const { hits } = await retrieval.search({ image: madeImage(id, 0) }, { k, candidates: ALL_CANDIDATES })
      return hits.map((hit) => ({ id: hit.id, similarity: hit.similarity }))
    }
  }
}

const say = (said: Said): void => void process.send?.(said)

process.on('message', (asked: Asked) => {
  const { number } = asked
  if (manner === '--hasty' && asked.name !== 'search') say({ number, answer: null })
  answer(asked).then(
    (given) => say({ number, answer: given }),
    (error: unknown) => say({ number, error: String(error) }),
  )
})
process.on('disconnect', () => process.exit())
say({ state: stateNow() })
