/**
 * Filtered recall, held to a full comparison with every item whose payload a second, obvious
 * evaluation lets through.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { filteredRecall } from '../../../src/collection/embedded/filtered-recall.js'
import { FilteredSets } from '../../../src/collection/embedded/filtered-sets.js'
import { parseFilter } from '../../../src/filter/parse.js'
import type { ItemStore, Payload } from '../../../src/item-store/item-store.js'
import { openItemStore } from '../../../src/item-store/open.js'
import { openVectorIndex } from '../../../src/vector-index/open.js'
import type { VectorIndex } from '../../../src/vector-index/vector-index.js'
import { cosine, randomEmbeddings, randomNumbers } from '../../support/random-embeddings.js'

const DIM = 16
/** Share of the nearest items that pass which a search of the graph has to find. */
const LEAST_RECALL = 0.97

interface Wire {
  must?: object[]
  should?: object[]
  must_not?: object[]
}

/** What a filter means, read off its wire form word by word. */
function passes(filter: Wire, payload: Payload | null): boolean {
  const { must = [], should = [], must_not: mustNot = [] } = filter
  const holds = (condition: object): boolean =>
    conditionHolds(condition as Record<string, unknown>, payload)
  if (must.some((condition) => !holds(condition))) return false
  if (mustNot.some((condition) => holds(condition))) return false
  return should.length === 0 || should.some((condition) => holds(condition))
}

function conditionHolds(condition: Record<string, unknown>, payload: Payload | null): boolean {
  if (!('key' in condition)) return passes(condition, payload)
  let value: unknown = payload
  for (const name of String(condition['key']).split('.')) {
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    value =
      isObject && Object.keys(value as object).includes(name)
        ? (value as Record<string, unknown>)[name]
        : undefined
  }
  if ('exists' in condition) return condition['exists'] === (value !== undefined && value !== null)
  if ('match' in condition)
    return [value]
      .flat()
      .some((one) => [condition['match']].flat().some((wanted) => wanted === one))
  return Object.entries(condition['range'] as Record<string, number | string>).every(
    ([than, limit]) => {
      if (typeof value !== typeof limit) return false
      const given = value as number | string
      return { gt: given > limit, gte: given >= limit, lt: given < limit, lte: given <= limit }[
        than
      ]
    },
  )
}

const scalar = fc.constantFrom<string | number | boolean>('sea', 'land', '', 0, 1, 2.5, true, false)
const payloads: fc.Arbitrary<Payload | null> = fc.option(
  fc.record(
    {
      a: fc.oneof(scalar, fc.array(scalar, { maxLength: 3 }), fc.constant(null)),
      b: fc.oneof(scalar, fc.record({ c: scalar, a: scalar }, { requiredKeys: [] })),
    },
    { requiredKeys: [] },
  ),
  { freq: 8 },
)
const key = fc.constantFrom('a', 'b', 'b.c', 'b.a', 'a.0', 'constructor')
const limit = fc.oneof(fc.constantFrom<number | string>(0, 1, 2, 'm', 'sea'))
const condition = fc.oneof(
  fc.record({ key, match: fc.oneof(scalar, fc.array(scalar, { minLength: 1, maxLength: 3 })) }),
  fc.record({ key, exists: fc.boolean() }),
  fc
    .tuple(key, limit, fc.constantFrom('gt', 'gte', 'lt', 'lte'))
    .map(([name, value, than]) => ({ key: name, range: { [than]: value } })),
)
const filters: fc.Arbitrary<Wire> = fc.letrec<{ filter: Wire; list: object[] }>((tie) => ({
  list: fc.array(
    fc.oneof(
      { arbitrary: condition, weight: 4 },
      tie('filter').filter((one) => Object.keys(one).length > 0),
    ),
    { maxLength: 2 },
  ),
  filter: fc.record(
    { must: tie('list'), should: tie('list'), must_not: tie('list') },
    { requiredKeys: [] },
  ),
})).filter

const image = { bytes: new Uint8Array(1), mime: 'image/jpeg', width: 4, height: 3 }

describe.each(['exact', 'hnsw'] as const)('filtered recall over the %s index', (kind) => {
  let folder: string
  let store: ItemStore
  let index: VectorIndex
  let sets: FilteredSets
  const items = new Map<string, { embedding: Float32Array; payload: Payload | null }>()

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tandem-filtered-'))
    store = await openItemStore({ folder: join(folder, 'items'), fingerprint: 'aaaa' })
    const { identity: storeIdentity } = store
    index = await openVectorIndex({
      kind,
      folder: join(folder, 'index'),
      dim: DIM,
      fingerprint: 'aaaa',
      storeIdentity,
    })
    sets = new FilteredSets()
    items.clear()
  })
  afterEach(async () => {
    await index.close()
    await store.close()
    await rm(folder, { recursive: true })
  })

  async function put(
    some: readonly { id: string; embedding: Float32Array; payload: Payload | null }[],
  ): Promise<void> {
    const { position } = await store.put(
      some.map((one) => ({ ...one, imageTokens: new Int8Array(4), image })),
    )
    await index.upsert(some, position)
    for (const { id, embedding, payload } of some) items.set(id, { embedding, payload })
  }

  async function remove(...ids: string[]): Promise<void> {
    const { position } = await store.remove(ids)
    await index.remove(ids, position)
    for (const id of ids) items.delete(id)
  }

  const recall = (
    filter: Wire,
    embedding: Float32Array,
    candidates: number,
    signal?: AbortSignal,
  ) =>
    filteredRecall({ index, store }, sets, {
      filter: parseFilter(filter),
      embedding,
      candidates,
      signal,
    })

  function truth(
    filter: Wire,
    embedding: Float32Array,
    candidates: number,
  ): { id: string; similarity: number }[] {
    return [...items]
      .filter(([, { payload }]) => passes(filter, payload))
      .map(([id, item]) => ({ id, similarity: cosine(embedding, item.embedding) }))
      .sort((a, b) => b.similarity - a.similarity)
      .slice(0, candidates)
  }

  it('finds what a full comparison over the payloads finds, while items come, change and go', async () => {
    const numbers = randomNumbers(3)
    const embeddings = randomEmbeddings(4000, DIM)
    let used = 0
    let wanted = 0
    let common = 0
    const next = (): Float32Array => embeddings[used++ % embeddings.length] as Float32Array
    const changes = fc.array(
      fc.record({ id: fc.nat(39), payload: payloads, isRemoval: fc.boolean() }),
      { maxLength: 6 },
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(payloads, { maxLength: 40, size: 'max' }),
        filters,
        changes,
        fc.integer({ min: 1, max: 50 }),
        async (first, filter, later, k) => {
          await put(first.map((payload, at) => ({ id: `item ${at}`, payload, embedding: next() })))
          const check = async (): Promise<void> => {
            const query = next()
            const found = await recall(filter, query, k)
            const all = truth(filter, query, items.size)
            const similarities = new Map(all.map(({ id, similarity }) => [id, similarity]))
            // As many as there are, each once, each of those that pass, best first: whatever the
            // index is.
            expect(new Set(found.map(({ id }) => id)).size).toBe(Math.min(k, all.length))
            for (const { id, similarity } of found)
              expect(similarity).toBeCloseTo(similarities.get(id) ?? 9, 4)
            expect(found).toEqual(found.toSorted((a, b) => b.similarity - a.similarity))
            const expected = all.slice(0, k).map(({ id }) => id)
            if (kind === 'exact') expect(found.map(({ id }) => id)).toEqual(expected)
            wanted += expected.length
            common += found.filter(({ id }) => expected.includes(id)).length
          }
          await check()
          for (const { id, payload, isRemoval } of later) {
            if (isRemoval) await remove(`item ${id}`)
            else await put([{ id: `item ${id}`, payload, embedding: next() }])
          }
          await check()
          await Promise.all([check(), check()])
          // What is left over is part of the next trial now and then.
          if (numbers() < 0.7) await remove(...items.keys())
        },
      ),
      { numRuns: 60 },
    )
    expect(wanted).toBeGreaterThan(300)
    expect(common).toBeGreaterThanOrEqual(LEAST_RECALL * wanted)
  })

  describe('with 3,000 items', () => {
    const embeddings = randomEmbeddings(3000, DIM)
    beforeEach(() =>
      put(
        embeddings.map((embedding, at) => ({
          id: `item ${at}`,
          embedding,
          payload: { half: at % 2, twentieth: at % 20, one: at },
        })),
      ),
    )

    it.each([
      ['half', 1],
      ['twentieth', 3],
      ['one', 77],
      ['one', -1],
    ])('finds as many as there are of those with %s = %d, and the nearest', async (name, match) => {
      const filter = { must: [{ key: name, match }] }
      let common = 0
      let all = 0
      for (const query of randomEmbeddings(10, DIM, 9)) {
        const expected = truth(filter, query, 40).map(({ id }) => id)
        const found = (await recall(filter, query, 40)).map(({ id }) => id)
        expect(found).toHaveLength(expected.length)
        for (const id of found) expect(passes(filter, items.get(id)?.payload ?? null)).toBe(true)
        common += expected.filter((id) => found.includes(id)).length
        all += expected.length
      }
      expect(common).toBeGreaterThanOrEqual(LEAST_RECALL * all)
    })

    it('searches the graph alone where many pass, and looks at each payload once where few do', async () => {
      const search = vi.spyOn(index, 'search')
      const payloadsSince = vi.spyOn(store, 'payloadsSince')
      const [query] = randomEmbeddings(1, DIM, 9) as [Float32Array]
      const calls = async (filter: Wire): Promise<[number, number]> => {
        search.mockClear()
        payloadsSince.mockClear()
        await recall(filter, query, 10)
        return [search.mock.calls.length, payloadsSince.mock.calls.length]
      }
      const [searches, slices] = await calls({ must: [{ key: 'half', match: 1 }] })
      expect(searches).toBeGreaterThan(0)
      expect(slices).toBe(0)
      const few = { must: [{ key: 'one', match: [3, 4, 5] }] }
      const [triedFirst, allSlices] = await calls(few)
      expect(triedFirst).toBeLessThanOrEqual(3)
      expect(allSlices).toBeGreaterThanOrEqual(6)
      expect(await calls(few)).toEqual([0, 0])
      await put([{ id: 'item 0', embedding: query, payload: { one: 4 } }])
      expect(await calls(few)).toEqual([0, 1])
      expect((await recall(few, query, 1))[0]?.id).toBe('item 0')
    })

    it('looks at each payload once also for several who ask the same at once', async () => {
      const payloadsSince = vi.spyOn(store, 'payloadsSince')
      const [query] = embeddings as [Float32Array]
      const few = { must: [{ key: 'one', match: 7 }] }
      const found = await Promise.all(Array.from({ length: 8 }, () => recall(few, query, 5)))
      for (const one of found) expect(one.map(({ id }) => id)).toEqual(['item 7'])
      // Slices of 500; several may be at it when the last one is looked at.
      expect(payloadsSince.mock.calls.length).toBeLessThanOrEqual(6 + 8)
    })

    it('keeps no more sets than it may', async () => {
      const payloadsSince = vi.spyOn(store, 'payloadsSince')
      const [query] = embeddings as [Float32Array]
      const ask = (one: number) => recall({ must: [{ key: 'one', match: -1 - one }] }, query, 1)
      for (let one = 0; one <= 32; one += 1) await ask(one)
      payloadsSince.mockClear()
      await ask(32)
      expect(payloadsSince).not.toHaveBeenCalled()
      await ask(0)
      expect(payloadsSince).toHaveBeenCalled()
    })

    it('ends with the signal, and lets others in between', async () => {
      const [query] = embeddings as [Float32Array]
      const few = { must: [{ key: 'one', match: 7 }] }
      const controller = new AbortController()
      vi.spyOn(store, 'payloadsSince').mockImplementationOnce(() => {
        setImmediate(() => controller.abort(new Error('gone')))
        return { payloads: [], position: 1 }
      })
      await expect(recall(few, query, 5, controller.signal)).rejects.toThrow('gone')
    })

    it('misses nothing that was stored before it began, while others write', async () => {
      const few = { must: [{ key: 'mark', exists: true }] }
      const numbers = randomNumbers(8)
      const query = (): Float32Array => embeddings[Math.floor(numbers() * 3000)] as Float32Array
      for (let round = 0; round < 40; round += 1) {
        const before = [...items]
          .filter(([, { payload }]) => payload !== null && 'mark' in payload)
          .map(([id]) => id)
        const writing = put([
          { id: `marked ${round}`, embedding: query(), payload: { mark: round } },
        ])
        const [one, two] = await Promise.all([recall(few, query(), 100), recall(few, query(), 100)])
        for (const found of [one, two])
          expect(found.map(({ id }) => id)).toEqual(expect.arrayContaining(before))
        await writing
      }
    })
  })
})
