/**
 * The change of bundle, with two made bundles whose embeddings cannot be mistaken for one
 * another's. The store is real.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  openEmbedded,
  type BundleShelf,
  type EmbeddedCollection,
  type StandbyStatus,
} from '../../../src/collection/collection.js'
import { TandemError } from '../../../src/errors.js'
import { openItemStore } from '../../../src/item-store/item-store.js'
import type { ModelInfo } from '../../../src/model/models.js'
import { Retrieval } from '../../../src/retrieval/retrieval.js'
import { embeddingOf, MemoryIndex, WordModels } from '../../support/word-models.js'

/** As the word bundle, with every embedding the other way round and one value longer. */
function otherEmbeddingOf(text: string): Float32Array {
  return Float32Array.from([...embeddingOf(text), 0].reverse())
}

class OtherModels extends WordModels {
  override readonly info: ModelInfo = {
    ...new WordModels().info,
    name: 'other',
    fingerprint: 'fedcba9876543210',
    dim: 65,
  }
  closed = false

  override async encodeTexts(...given: Parameters<WordModels['encodeTexts']>) {
    const { encoded, timings } = await super.encodeTexts(...given)
    return {
      encoded: encoded.map((one, at) => ({
        ...one,
        embedding: otherEmbeddingOf(given[0][at] ?? ''),
      })),
      timings,
    }
  }

  override async encodeImages(...given: Parameters<WordModels['encodeImages']>) {
    const { encoded, timings } = await super.encodeImages(...given)
    const words = given[0].map((bytes) => Buffer.from(bytes).toString())
    return {
      encoded: encoded.map((one, at) => ({ ...one, embedding: otherEmbeddingOf(words[at] ?? '') })),
      timings,
    }
  }

  override close() {
    this.closed = true
    return Promise.resolve()
  }
}

let folder: string
let collection: EmbeddedCollection
let retrieval: Retrieval
/** What each bundle's rooms are, once they have been opened. */
let words: WordModels
let other: OtherModels
let indexes: Map<string, MemoryIndex>
let discarded: string[]

const byName = (name: string): WordModels => (name === 'words' ? words : other)

async function open(): Promise<void> {
  words = new WordModels()
  other = new OtherModels()
  indexes = new Map()
  discarded = []
  const { fingerprint } = words.info
  const store = await openItemStore({ folder, fingerprint, name: 'words' })
  const index = (one: string): MemoryIndex => {
    const made = new MemoryIndex()
    indexes.set(one, made)
    return made
  }
  const shelf: BundleShelf = {
    fingerprintOf: async (name) => {
      if (!['words', 'other'].includes(name))
        throw new TandemError('bundle_unusable', `no bundle ${name}`)
      return Promise.resolve(byName(name).info.fingerprint)
    },
    open: (name, items) =>
      Promise.resolve({ models: byName(name), index: index(items.fingerprint), store: items }),
    discard: (one) => Promise.resolve(void discarded.push(one)),
  }
  const serving = store.fingerprint
  const models = serving === fingerprint ? words : other
  collection = openEmbedded({ models, index: index(serving), store }, shelf)
  retrieval = new Retrieval(collection)
  await retrieval.start()
}

async function restart(): Promise<void> {
  await retrieval.close()
  await open()
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-standby-'))
  await open()
})
afterEach(async () => {
  await retrieval.close()
  await rm(folder, { recursive: true, force: true })
})

const add = (id: string, word: string) =>
  retrieval.add({ id, image: Buffer.from(word), payload: { word } })
const status = (): StandbyStatus | null => collection.upkeep.standby.status().standby
const reaches = (state: StandbyStatus['state']) =>
  expect.poll(() => status()?.state, { timeout: 20_000 }).toBe(state)
const serving = (): string | null => collection.upkeep.standby.status().serving.name

async function fill(count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, at) => add(`item-${at}`, `dog ${at}`)))
}

/** Similarities of a search for "dog" to all items, by id. */
async function similarities(): Promise<Record<string, number>> {
  const { hits } = await retrieval.search(
    { text: 'dog' },
    { k: 1000, candidates: 1000, rerank: false },
  )
  return Object.fromEntries(hits.map(({ id, similarity }) => [id, similarity]))
}

/** Store and both indexes agree for both bundles, and every embedding is of its bundle. */
async function expectAgreement(): Promise<void> {
  await reaches('level')
  const stored = (await retrieval.list({ limit: 1000 })).items
  for (const { info } of [words, other]) {
    const index = indexes.get(info.fingerprint)
    await expect
      .poll(() => [...(index?.ids() ?? [])].sort())
      .toEqual(stored.map(({ id }) => id).sort())
    for (const { id, payload } of stored) {
      const word = payload?.['word'] as string
      expect(index?.vectors.get(id), id).toEqual(
        info === words.info ? embeddingOf(word) : otherEmbeddingOf(word),
      )
    }
  }
}

describe('a bundle that stands by', () => {
  it('follows what is stored, and what is added, replaced and removed meanwhile', async () => {
    await fill(40)
    await collection.upkeep.standby.start('other')
    expect(serving()).toBe('words')
    await Promise.all([
      add('new', 'cat'),
      add('item-3', 'horse'),
      retrieval.remove('item-4'),
      retrieval.remove('item-39'),
    ])
    await reaches('level')
    await Promise.all([add('later', 'zebra'), retrieval.remove('item-7')])
    await expectAgreement()
    expect(status()).toMatchObject({ name: 'other', items: 39, behind: 0, problem: null })
  })

  it('keeps an item that was removed and added again while it was at something else', async () => {
    await fill(3)
    await collection.upkeep.standby.start('other')
    await reaches('level')
    let release = (): void => undefined
    other.gate = () => new Promise((resolve) => (release = resolve))
    await add('item-0', 'horse')
    await retrieval.remove('item-1')
    await add('item-1', 'zebra')
    other.gate = () => Promise.resolve()
    release()
    await expectAgreement()
  })

  it('is refused where it serves, is none, or another one stands by', async () => {
    const refused = (name: string) =>
      collection.upkeep.standby.start(name).then(
        () => '',
        (error: TandemError) => error.code,
      )
    expect(await refused('words')).toBe('reembedding_conflict')
    expect(await refused('nothing')).toBe('bundle_unusable')
    expect(await refused('other')).toBe('')
    expect(await refused('other')).toBe('')
    await expect(collection.upkeep.standby.switch()).resolves.toBeUndefined()
    expect(await refused('other')).toBe('reembedding_conflict')
  })

  it('says what is wrong, and gets on when it no longer is', async () => {
    await fill(3)
    other.gate = () => Promise.reject(new Error('the disk of the bundle is gone'))
    await collection.upkeep.standby.start('other')
    await expect.poll(() => status()?.problem).toMatch(/item-0.*the disk of the bundle is gone/)
    expect(status()).toMatchObject({ state: 'following', behind: 3 })
    await expect(collection.upkeep.standby.switch()).rejects.toMatchObject({
      code: 'reembedding_not_ready',
    })
    expect(serving()).toBe('words')
    other.gate = () => Promise.resolve()
    await expectAgreement()
    expect(status()?.problem).toBeNull()
  })

  it('is gone when it is ended, at any moment, and can stand by again', async () => {
    await fill(20)
    await collection.upkeep.standby.start('other')
    await collection.upkeep.standby.end()
    expect(status()).toBeNull()
    await expect(collection.upkeep.standby.end()).rejects.toMatchObject({
      code: 'reembedding_not_found',
    })
    await expect(collection.upkeep.standby.switch()).rejects.toMatchObject({
      code: 'reembedding_not_found',
    })
    await expect.poll(() => discarded).toEqual([other.info.fingerprint])
    await collection.upkeep.standby.start('other')
    await expectAgreement()
  })
})

describe('a switch', () => {
  it('is refused while much is behind, and follows the rest itself', async () => {
    await fill(300)
    let release = (): void => undefined
    other.gate = () => new Promise((resolve) => (release = resolve))
    await collection.upkeep.standby.start('other')
    await expect.poll(() => status()?.state).toBe('following')
    await expect(collection.upkeep.standby.switch()).rejects.toThrow(/300 of 300 items/)
    other.gate = () => Promise.resolve()
    release()
    await expect.poll(() => status()?.behind, { timeout: 20_000 }).toBeLessThan(250)
    await collection.upkeep.standby.switch()
    expect(serving()).toBe('other')
    await expectAgreement()
  })

  it('changes what searches are answered from, and back', async () => {
    await fill(10)
    await collection.upkeep.standby.start('other')
    await reaches('level')
    await collection.upkeep.standby.switch()
    expect(retrieval.model.name).toBe('other')
    expect((await retrieval.embed([{ text: 'dog' }])).embeddings[0]).toEqual(
      otherEmbeddingOf('dog'),
    )
    await Promise.all([add('item-1', 'cat'), add('new', 'dog'), retrieval.remove('item-2')])
    expect((await similarities())['new']).toBeCloseTo(1)
    await expectAgreement()
    await collection.upkeep.standby.switch()
    expect(retrieval.model.name).toBe('words')
    expect((await retrieval.embed([{ text: 'dog' }])).embeddings[0]).toEqual(embeddingOf('dog'))
    expect((await similarities())['new']).toBeCloseTo(1)
    await expectAgreement()
  })

  it('does not happen when the request for it ends first; following goes on', async () => {
    await fill(30)
    other.gate = () => new Promise((resolve) => setTimeout(resolve, 50))
    await collection.upkeep.standby.start('other')
    await expect.poll(() => status()?.state).toBe('following')
    await expect(
      collection.upkeep.standby.switch({ signal: AbortSignal.timeout(10) }),
    ).rejects.toThrow(/timeout/)
    expect(serving()).toBe('words')
    await expectAgreement()
  })

  it('lets a search end with the bundle that it began with, and closes that only then', async () => {
    await fill(5)
    await collection.upkeep.standby.start('other')
    await reaches('level')
    let release = (): void => undefined
    words.gate = () => new Promise((resolve) => (release = resolve))
    let closed = false
    words.close = () => Promise.resolve(void (closed = true))
    const search = similarities()
    await collection.upkeep.standby.switch()
    await collection.upkeep.standby.end()
    expect(Object.keys(await similarities())).toHaveLength(5)
    expect(closed).toBe(false)
    release()
    expect(Object.keys(await search).sort()).toEqual([
      'item-0',
      'item-1',
      'item-2',
      'item-3',
      'item-4',
    ])
    await expect.poll(() => closed).toBe(true)
  })

  it('has an image encoded again that was encoded by the former bundle', async () => {
    await collection.upkeep.standby.start('other')
    await reaches('level')
    let release = (): void => undefined
    words.gate = () => new Promise((resolve) => (release = resolve))
    const added = add('late', 'dog')
    await collection.upkeep.standby.switch()
    words.gate = () => Promise.resolve()
    release()
    expect((await added).status).toBe('created')
    expect((await retrieval.get('late')).embedding).toEqual(otherEmbeddingOf('dog'))
    await expectAgreement()
  })
})

describe('a restart', () => {
  it.each([
    [
      'while it follows',
      async () => {
        other.gate = () => new Promise((resolve) => setTimeout(resolve, 20))
        await collection.upkeep.standby.start('other')
      },
      'words',
    ],
    [
      'when it is level',
      async () => {
        await collection.upkeep.standby.start('other')
        await reaches('level')
      },
      'words',
    ],
    [
      'after a switch',
      async () => {
        await collection.upkeep.standby.start('other')
        await reaches('level')
        await collection.upkeep.standby.switch()
      },
      'other',
    ],
  ] as const)('%s goes on where it was', async (_when, bring, expected) => {
    await fill(30)
    await bring()
    await restart()
    expect(serving()).toBe(expected)
    await add('item-5', 'cat')
    await retrieval.remove('item-6')
    await expectAgreement()
    await collection.upkeep.standby.switch()
    expect(serving()).toBe(expected === 'words' ? 'other' : 'words')
    await expectAgreement()
  })

  it('after the end of the former bundle goes on with the new one', async () => {
    await fill(5)
    await collection.upkeep.standby.start('other')
    await reaches('level')
    await collection.upkeep.standby.switch()
    await collection.upkeep.standby.end()
    await restart()
    expect([serving(), status()]).toEqual(['other', null])
    expect(Object.keys(await similarities())).toHaveLength(5)
  })
})

describe('searches during changes of bundle and writes', () => {
  it('are answered from one bundle each, exactly', async () => {
    const still = Array.from({ length: 60 }, (_, at) => `still-${at}`)
    await Promise.all(still.map((id, at) => add(id, `dog ${at}`)))
    const cosine = (text: string): number =>
      embeddingOf('dog').reduce((sum, value, at) => sum + value * (embeddingOf(text)[at] ?? 0), 0)
    const exact = Object.fromEntries(still.map((id, at) => [id, cosine(`dog ${at}`)]))
    let over = false
    let [searches, writes] = [0, 0]
    const search = async (): Promise<void> => {
      while (!over) {
        // Made rooms answer without ever letting others run.
        await new Promise((resolve) => setImmediate(resolve))
        const found = Object.entries(await similarities()).filter(([id]) => id in exact)
        // The two bundles agree on similarities; one of a query and an item of different bundles
        // would be another.
        expect(found).toHaveLength(still.length)
        for (const [id, similarity] of found) expect(similarity, id).toBeCloseTo(exact[id] ?? 9, 5)
        searches += 1
      }
    }
    const write = async (id: string): Promise<void> => {
      while (!over) {
        await add(id, `cat ${writes}`)
        writes += 1
        if (writes % 3 === 0) await retrieval.remove(id)
      }
    }
    const busy = [search(), search(), write('a'), write('b'), write('c')]
    for (let at = 0; at < 3; at += 1) {
      await collection.upkeep.standby.start('other')
      for (const expected of ['other', 'words']) {
        await expect.poll(() => status()?.behind ?? 999, { timeout: 20_000 }).toBeLessThan(20)
        await collection.upkeep.standby.switch()
        expect(serving()).toBe(expected)
      }
      if (at < 2) await collection.upkeep.standby.end()
    }
    over = true
    await Promise.all(busy)
    expect(searches).toBeGreaterThan(20)
    expect(writes).toBeGreaterThan(20)
    await expectAgreement()
  })
})
