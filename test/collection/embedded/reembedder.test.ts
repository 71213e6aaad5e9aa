/** Changes of bundle over a real store, with two fake bundles whose embeddings differ. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ReembeddingStatus } from '../../../src/collection/collection.js'
import type { BundleCatalog } from '../../../src/collection/embedded/bundle-catalog.js'
import { EmbeddedCollection } from '../../../src/collection/embedded/embedded.js'
import { TandemError } from '../../../src/errors.js'
import { openItemStore } from '../../../src/item-store/open.js'
import type { ModelInfo } from '../../../src/model/models.js'
import { Retrieval } from '../../../src/retrieval/retrieval.js'
import { MemoryIndex } from '../../support/memory-index.js'
import { embeddingOf, WordModels } from '../../support/word-models.js'

vi.setConfig({ testTimeout: 60_000 })

/** The embedding of the word bundle, reversed and one value longer. */
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

  override async encodeTexts(...args: Parameters<WordModels['encodeTexts']>) {
    const { encoded, timings } = await super.encodeTexts(...args)
    return {
      encoded: encoded.map((text, at) => ({
        ...text,
        embedding: otherEmbeddingOf(args[0][at] ?? ''),
      })),
      timings,
    }
  }

  override async encodeImages(...args: Parameters<WordModels['encodeImages']>) {
    const { encoded, timings } = await super.encodeImages(...args)
    const words = args[0].map((bytes) => Buffer.from(bytes).toString())
    return {
      encoded: encoded.map((image, at) => ({
        ...image,
        embedding: otherEmbeddingOf(words[at] ?? ''),
      })),
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
/** Models and indexes of the two bundles since the last `open`. */
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
  const indexOf = (bundle: string): MemoryIndex => {
    const index = new MemoryIndex()
    indexes.set(bundle, index)
    return index
  }
  const catalog: BundleCatalog = {
    fingerprintOf: async (name) => {
      if (!['words', 'other'].includes(name))
        throw new TandemError('bundle_unusable', `no bundle ${name}`)
      return Promise.resolve(byName(name).info.fingerprint)
    },
    open: (name, view) =>
      Promise.resolve({ models: byName(name), index: indexOf(view.fingerprint), store: view }),
    discard: (bundle) => Promise.resolve(void discarded.push(bundle)),
  }
  const serving = store.fingerprint
  const models = serving === fingerprint ? words : other
  collection = new EmbeddedCollection({ models, index: indexOf(serving), store }, catalog)
  retrieval = new Retrieval(collection)
  await retrieval.start()
}

async function restart(): Promise<void> {
  await retrieval.close()
  await open()
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tandem-reembedder-'))
  await open()
})
afterEach(async () => {
  await retrieval.close()
  await rm(folder, { recursive: true, force: true })
})

const add = (id: string, word: string) =>
  retrieval.add({ id, image: Buffer.from(word), payload: { word } })
const reembedder = () => collection.maintenance.reembedder
const status = (): ReembeddingStatus | null => reembedder().status().reembedding
const reaches = (state: ReembeddingStatus['state']) =>
  expect.poll(() => status()?.state, { timeout: 20_000 }).toBe(state)
const serving = (): string | null => reembedder().status().serving.name

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

/** Asserts that store and both indexes agree, and that each embedding is of its bundle. */
async function expectAgreement(): Promise<void> {
  await reaches('ready')
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

describe('a backfill', { timeout: 30_000 }, () => {
  it('embeds stored items and those added, replaced and removed meanwhile', async () => {
    await fill(40)
    await reembedder().start('other')
    expect(serving()).toBe('words')
    await Promise.all([
      add('new', 'cat'),
      add('item-3', 'horse'),
      retrieval.remove('item-4'),
      retrieval.remove('item-39'),
    ])
    await reaches('ready')
    await Promise.all([add('later', 'zebra'), retrieval.remove('item-7')])
    await expectAgreement()
    expect(status()).toMatchObject({ name: 'other', items: 39, lag: 0, problem: null })
  })

  it('keeps an item that was removed and added again while it was busy', async () => {
    await fill(3)
    await reembedder().start('other')
    await reaches('ready')
    let release = (): void => undefined
    other.gate = () => new Promise((resolve) => (release = resolve))
    await add('item-0', 'horse')
    await retrieval.remove('item-1')
    await add('item-1', 'zebra')
    other.gate = () => Promise.resolve()
    release()
    await expectAgreement()
  })

  it('is refused for the serving bundle, an unknown bundle, and a second bundle', async () => {
    const refused = (name: string) =>
      reembedder()
        .start(name)
        .then(
          () => '',
          (error: TandemError) => error.code,
        )
    expect(await refused('words')).toBe('reembedding_conflict')
    expect(await refused('nothing')).toBe('bundle_unusable')
    expect(await refused('other')).toBe('')
    expect(await refused('other')).toBe('')
    await expect(reembedder().promote()).resolves.toBeUndefined()
    expect(await refused('other')).toBe('reembedding_conflict')
  })

  it('reports the problem of a group and continues when it is solved', async () => {
    await fill(3)
    other.gate = () => Promise.reject(new Error('the disk of the bundle is gone'))
    await reembedder().start('other')
    await expect.poll(() => status()?.problem).toMatch(/item-0.*the disk of the bundle is gone/)
    expect(status()).toMatchObject({ state: 'embedding', lag: 3 })
    await expect(reembedder().promote()).rejects.toMatchObject({
      code: 'reembedding_not_ready',
    })
    expect(serving()).toBe('words')
    other.gate = () => Promise.resolve()
    await expectAgreement()
    expect(status()?.problem).toBeNull()
  })

  it('drops its encodings when it is ended early and can be started again', async () => {
    await fill(20)
    await reembedder().start('other')
    await reembedder().end()
    expect(status()).toBeNull()
    await expect(reembedder().end()).rejects.toMatchObject({
      code: 'reembedding_not_found',
    })
    await expect(reembedder().promote()).rejects.toMatchObject({
      code: 'reembedding_not_found',
    })
    await expect.poll(() => discarded).toEqual([other.info.fingerprint])
    await reembedder().start('other')
    await expectAgreement()
  })
})

describe('a promotion', { timeout: 30_000 }, () => {
  it('is refused while the lag is large and embeds a small rest itself', async () => {
    await fill(300)
    let release = (): void => undefined
    other.gate = () => new Promise((resolve) => (release = resolve))
    await reembedder().start('other')
    await expect.poll(() => status()?.state).toBe('embedding')
    await expect(reembedder().promote()).rejects.toThrow(/300 of 300 items/)
    other.gate = () => Promise.resolve()
    release()
    await expect.poll(() => status()?.lag, { timeout: 20_000 }).toBeLessThan(250)
    await reembedder().promote()
    expect(serving()).toBe('other')
    await expectAgreement()
  })

  it('changes the bundle that answers searches, and back', async () => {
    await fill(10)
    await reembedder().start('other')
    await reaches('ready')
    await reembedder().promote()
    expect(retrieval.model.name).toBe('other')
    expect((await retrieval.embed([{ text: 'dog' }])).embeddings[0]).toEqual(
      otherEmbeddingOf('dog'),
    )
    await Promise.all([add('item-1', 'cat'), add('new', 'dog'), retrieval.remove('item-2')])
    expect((await similarities())['new']).toBeCloseTo(1)
    await expectAgreement()
    await reembedder().promote()
    expect(retrieval.model.name).toBe('words')
    expect((await retrieval.embed([{ text: 'dog' }])).embeddings[0]).toEqual(embeddingOf('dog'))
    expect((await similarities())['new']).toBeCloseTo(1)
    await expectAgreement()
  })

  it('is cancelled with its request, and the backfill continues', async () => {
    await fill(30)
    other.gate = () => new Promise((resolve) => setTimeout(resolve, 50))
    await reembedder().start('other')
    await expect.poll(() => status()?.state).toBe('embedding')
    await expect(reembedder().promote({ signal: AbortSignal.timeout(10) })).rejects.toThrow(
      /timeout/,
    )
    expect(serving()).toBe('words')
    await expectAgreement()
  })

  it('lets a search finish with its bundle and closes the bundle afterwards', async () => {
    await fill(5)
    await reembedder().start('other')
    await reaches('ready')
    let release = (): void => undefined
    words.gate = () => new Promise((resolve) => (release = resolve))
    let closed = false
    words.close = () => Promise.resolve(void (closed = true))
    const search = similarities()
    await reembedder().promote()
    await reembedder().end()
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

  it('makes an add encode its image again that the former bundle encoded', async () => {
    await reembedder().start('other')
    await reaches('ready')
    let release = (): void => undefined
    words.gate = () => new Promise((resolve) => (release = resolve))
    const added = add('late', 'dog')
    await reembedder().promote()
    words.gate = () => Promise.resolve()
    release()
    expect((await added).status).toBe('created')
    expect((await retrieval.get('late')).embedding).toEqual(otherEmbeddingOf('dog'))
    await expectAgreement()
  })
})

describe('re-embedding after a restart', { timeout: 30_000 }, () => {
  it.each([
    [
      'while items remain',
      async () => {
        other.gate = () => new Promise((resolve) => setTimeout(resolve, 20))
        await reembedder().start('other')
      },
      'words',
    ],
    [
      'once the bundle is ready',
      async () => {
        await reembedder().start('other')
        await reaches('ready')
      },
      'words',
    ],
    [
      'after a promotion',
      async () => {
        await reembedder().start('other')
        await reaches('ready')
        await reembedder().promote()
      },
      'other',
    ],
  ] as const)('%s continues where it stopped', async (_when, bring, expected) => {
    await fill(30)
    await bring()
    await restart()
    expect(serving()).toBe(expected)
    await add('item-5', 'cat')
    await retrieval.remove('item-6')
    await expectAgreement()
    await reembedder().promote()
    expect(serving()).toBe(expected === 'words' ? 'other' : 'words')
    await expectAgreement()
  })

  it('after the former bundle was dropped, the new one serves', async () => {
    await fill(5)
    await reembedder().start('other')
    await reaches('ready')
    await reembedder().promote()
    await reembedder().end()
    await restart()
    expect([serving(), status()]).toEqual(['other', null])
    expect(Object.keys(await similarities())).toHaveLength(5)
  })
})

describe('searches during promotions and writes', { timeout: 120_000 }, () => {
  it('are each answered exactly, by one bundle', async () => {
    const still = Array.from({ length: 60 }, (_, at) => `still-${at}`)
    await Promise.all(still.map((id, at) => add(id, `dog ${at}`)))
    const cosine = (text: string): number =>
      embeddingOf('dog').reduce((sum, value, at) => sum + value * (embeddingOf(text)[at] ?? 0), 0)
    const exact = Object.fromEntries(still.map((id, at) => [id, cosine(`dog ${at}`)]))
    let over = false
    let [searches, writes] = [0, 0]
    const search = async (): Promise<void> => {
      while (!over) {
        // Fakes answer without yielding to the event loop.
        await new Promise((resolve) => setImmediate(resolve))
        const found = Object.entries(await similarities()).filter(([id]) => id in exact)
        // Both bundles give the same similarities; mixing them would give another one.
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
      await reembedder().start('other')
      for (const expected of ['other', 'words']) {
        await expect.poll(() => status()?.lag ?? 999, { timeout: 20_000 }).toBeLessThan(20)
        await reembedder().promote()
        expect(serving()).toBe(expected)
      }
      if (at < 2) await reembedder().end()
    }
    over = true
    await Promise.all(busy)
    expect(searches).toBeGreaterThan(20)
    expect(writes).toBeGreaterThan(20)
    await expectAgreement()
  })
})
