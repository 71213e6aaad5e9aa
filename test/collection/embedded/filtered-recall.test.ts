/** Filtered recall against exact search over a second, simple evaluation of the filter. */
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

vi.setConfig({ testTimeout: 60_000 })

const DIM = 16
/** The share of the exact results that the HNSW index has to find. */
const MIN_RECALL = 0.97

interface Wire {
  must?: object[]
  should?: object[]
  must_not?: object[]
}

/** Evaluates the wire form of a filter directly. */
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
    return [value].flat().some((element) => [condition['match']].flat().includes(element))
  return Object.entries(condition['range'] as Record<string, number | string>).every(
    ([than, limit]) => {
      if (typeof value !== typeof limit) return false
      const actual = value as number | string
      return {
        gt: actual > limit,
        gte: actual >= limit,
        lt: actual < limit,
        lte: actual <= limit,
      }[than]
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
      tie('filter').filter((nested) => Object.keys(nested).length > 0),
    ),
    { maxLength: 2 },
  ),
  filter: fc.record(
    { must: tie('list'), should: tie('list'), must_not: tie('list') },
    { requiredKeys: [] },
  ),
})).filter

const image = { bytes: new Uint8Array(1), mime: 'image/jpeg', width: 4, height: 3 }

describe.each(['exact', 'hnsw'] as const)(
  'filtered recall over the %s index',
  { timeout: 60_000 },
  (kind) => {
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
      newItems: readonly { id: string; embedding: Float32Array; payload: Payload | null }[],
    ): Promise<void> {
      const { position } = await store.put(
        newItems.map((item) => ({ ...item, imageTokens: new Int8Array(4), image })),
      )
      await index.upsert(newItems, position)
      for (const { id, embedding, payload } of newItems) items.set(id, { embedding, payload })
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

    it('finds what exact search finds while items are added, replaced and removed', async () => {
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
            await put(
              first.map((payload, at) => ({ id: `item ${at}`, payload, embedding: next() })),
            )
            const check = async (): Promise<void> => {
              const query = next()
              const found = await recall(filter, query, k)
              const all = truth(filter, query, items.size)
              const similarities = new Map(all.map(({ id, similarity }) => [id, similarity]))
              // For any index: as many as pass, each once, with the right similarity, best first.
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
            // Sometimes the next run begins with the remaining items.
            if (numbers() < 0.7) await remove(...items.keys())
          },
        ),
        { numRuns: 60 },
      )
      expect(wanted).toBeGreaterThan(300)
      expect(common).toBeGreaterThanOrEqual(MIN_RECALL * wanted)
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
      ])('finds the nearest items with %s = %d, and as many as exist', async (name, match) => {
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
        expect(common).toBeGreaterThanOrEqual(MIN_RECALL * all)
      })

      it('searches only the graph if many items pass, and reads each payload once if few do', async () => {
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

      it('reads each payload once for concurrent searches with the same filter', async () => {
        const payloadsSince = vi.spyOn(store, 'payloadsSince')
        const [query] = embeddings as [Float32Array]
        const few = { must: [{ key: 'one', match: 7 }] }
        const found = await Promise.all(Array.from({ length: 8 }, () => recall(few, query, 5)))
        for (const neighbours of found) expect(neighbours.map(({ id }) => id)).toEqual(['item 7'])
        // 6 slices of 500, and one more for each concurrent search.
        expect(payloadsSince.mock.calls.length).toBeLessThanOrEqual(6 + 8)
      })

      it('keeps at most 32 sets', async () => {
        const payloadsSince = vi.spyOn(store, 'payloadsSince')
        const [query] = embeddings as [Float32Array]
        const search = (at: number) => recall({ must: [{ key: 'one', match: -1 - at }] }, query, 1)
        for (let at = 0; at <= 32; at += 1) await search(at)
        payloadsSince.mockClear()
        await search(32)
        expect(payloadsSince).not.toHaveBeenCalled()
        await search(0)
        expect(payloadsSince).toHaveBeenCalled()
      })

      it('yields to other requests and ends with its signal', async () => {
        const [query] = embeddings as [Float32Array]
        const few = { must: [{ key: 'one', match: 7 }] }
        const controller = new AbortController()
        vi.spyOn(store, 'payloadsSince').mockImplementationOnce(() => {
          setImmediate(() => controller.abort(new Error('gone')))
          return { payloads: [], position: 1 }
        })
        await expect(recall(few, query, 5, controller.signal)).rejects.toThrow('gone')
      })

      it('misses no item stored before it began while others write', async () => {
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
          const results = await Promise.all([1, 2].map(() => recall(few, query(), 100)))
          for (const found of results)
            expect(found.map(({ id }) => id)).toEqual(expect.arrayContaining(before))
          await writing
        }
      })
    })
  },
)
