/** Filtered search, also after changes of items, in every kind of collection that stores items. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Collection } from '../../src/collection/collection.js'
import type { NewItem } from '../../src/item-store/item-store.js'
import { parseFilter } from '../../src/filter/parse.js'
import { cosine } from '../support/random-embeddings.js'
import { embeddings, fingerprint, itemOf, kinds, type Opened } from '../support/collection-kinds.js'

const payloads: Readonly<Record<string, NewItem['payload']>> = {
  a: { place: 'sea', year: 2018, tags: ['boat', 'sun'], camera: { make: 'Ona', iso: 100 } },
  b: { place: 'Sea', year: 2019.5, tags: [], camera: { make: 'Zed', iso: 400 }, shared: true },
  c: { place: 'land', year: '2019', tags: 'boat', camera: 'Ona', shared: false },
  d: { place: null, year: -1, tags: [1, true, null], shared: 1 },
  e: { place: '', year: 1e21, tags: ['1', 'sun"]'], camera: {}, shared: 'true' },
  f: { place: { x: 'sea' }, 'place.x': 'land', year: 0 },
  g: {},
  h: null,
}

/** A filter as clients write it, and the ids that pass. */
const cases: [filter: object, ids: string][] = [
  [{}, 'abcdefgh'],
  [{ must: [], should: [], must_not: [] }, 'abcdefgh'],
  [{ must: [{ key: 'place', match: 'sea' }] }, 'a'],
  [{ must: [{ key: 'place', match: '' }] }, 'e'],
  [{ must: [{ key: 'place', match: ['Sea', 'land', 'hill'] }] }, 'bc'],
  [{ must: [{ key: 'place.x', match: 'sea' }] }, 'f'],
  [{ must: [{ key: 'place.x', match: 'land' }] }, ''],
  [{ must: [{ key: 'camera.make', match: 'Ona' }] }, 'a'],
  [{ must: [{ key: 'year', match: [2018, '2019'] }] }, 'ac'],
  [{ must: [{ key: 'shared', match: true }] }, 'b'],
  [{ must: [{ key: 'shared', match: false }] }, 'c'],
  [{ must: [{ key: 'shared', match: 1 }] }, 'd'],
  [{ must: [{ key: 'shared', match: 'true' }] }, 'e'],
  [{ must: [{ key: 'tags', match: 'boat' }] }, 'ac'],
  [{ must: [{ key: 'tags', match: [true, 'sun"]'] }] }, 'de'],
  [{ must: [{ key: 'tags', match: '1' }] }, 'e'],
  [{ must: [{ key: 'year', range: { gt: 0 } }] }, 'abe'],
  [{ must: [{ key: 'year', range: { gte: 0 } }] }, 'abef'],
  [{ must: [{ key: 'year', range: { lt: 0 } }] }, 'd'],
  [{ must: [{ key: 'year', range: { lte: 0 } }] }, 'df'],
  [{ must: [{ key: 'year', range: { gte: 2018, lt: 2019.5 } }] }, 'a'],
  [{ must: [{ key: 'year', range: { gt: 3, lt: 2 } }] }, ''],
  [{ must: [{ key: 'camera.iso', range: { gt: 99, lte: 400 } }] }, 'ab'],
  [{ must: [{ key: 'place', range: { gte: 'a' } }] }, 'ac'],
  [{ must: [{ key: 'place', range: { gt: '' } }] }, 'abc'],
  [{ must: [{ key: 'place', range: { lte: 'Sea' } }] }, 'be'],
  [{ must: [{ key: 'place', range: { gte: 'l', lt: 'm' } }] }, 'c'],
  [{ must: [{ key: 'tags', range: { gte: 0 } }] }, ''],
  [{ must: [{ key: 'place', exists: true }] }, 'abcef'],
  [{ must: [{ key: 'place', exists: false }] }, 'dgh'],
  [{ must: [{ key: 'tags', exists: true }] }, 'abcde'],
  [{ must: [{ key: 'camera.iso', exists: false }] }, 'cdefgh'],
  [{ must_not: [{ key: 'place', match: 'sea' }] }, 'bcdefgh'],
  [{ must_not: [{ key: 'year', range: { lt: 3000 } }] }, 'cegh'],
  [
    {
      must_not: [
        { key: 'shared', exists: true },
        { key: 'tags', match: 'sun' },
      ],
    },
    'fgh',
  ],
  [
    {
      should: [
        { key: 'place', match: 'land' },
        { key: 'year', range: { gte: 2019 } },
      ],
    },
    'bce',
  ],
  [
    {
      must: [
        { key: 'tags', exists: true },
        { key: 'camera', exists: true },
      ],
      must_not: [{ key: 'tags', match: 'boat' }],
    },
    'be',
  ],
  [
    {
      must: [{ key: 'year', exists: true }],
      should: [
        { key: 'place', match: 'sea' },
        { key: 'shared', exists: false },
      ],
    },
    'af',
  ],
  [
    {
      should: [
        { must: [{ key: 'place', match: 'Sea' }] },
        { must_not: [{ key: 'year', exists: true }] },
      ],
    },
    'bgh',
  ],
  [
    {
      must_not: [
        {
          should: [
            { key: 'year', range: { gt: 0 } },
            { must_not: [{ key: 'tags', exists: true }] },
          ],
        },
      ],
    },
    'cd',
  ],
]

describe.each(kinds)('a filter of a collection $kind', { timeout: 30_000 }, ({ open }) => {
  let opened: Opened
  let collection: Collection

  const put = (item: NewItem) => collection.put(item, fingerprint)
  const found = async (
    filter: object,
    candidates = 1000,
    at = 0,
  ): Promise<{ id: string; similarity: number }[]> => {
    using lease = collection.acquire()
    return await lease.items.recall(embeddings[at] as Float32Array, candidates, {
      filter: parseFilter(filter),
    })
  }
  const ids = async (filter: object): Promise<string> =>
    (await found(filter))
      .map(({ id }) => id)
      .sort()
      .join('')

  beforeAll(async () => {
    opened = await open()
    collection = opened.collection
    await collection.start()
  })
  afterAll(() => opened.end())
  beforeEach(async () => {
    using lease = collection.acquire()
    const listed = await lease.items.list({ limit: 1000 })
    await Promise.all(listed.map(({ id }) => collection.remove(id)))
  })

  it('selects the right items with every operator', async () => {
    await Promise.all(
      Object.entries(payloads).map(([id, payload], at) => put(itemOf(id, at, payload))),
    )
    for (const [filter, expected] of cases)
      expect(await ids(filter), JSON.stringify(filter)).toBe(expected)
  })

  it.each([
    ['few', 5],
    ['most', 150],
  ])('finds the nearest of the items that pass if %s do', async (_share, passing) => {
    const isIn = (at: number): boolean => (at * 7) % 200 < passing
    await Promise.all(
      embeddings
        .slice(0, 200)
        .map((_, at) => put(itemOf(`item ${at}`, at, { side: isIn(at) ? 'in' : 'out' }))),
    )
    const query = embeddings[300] as Float32Array
    const truth = Array.from({ length: 200 }, (_, at) => ({
      at,
      similarity: cosine(query, embeddings[at] as Float32Array),
    }))
    truth.sort((a, b) => b.similarity - a.similarity)
    const nearest = truth.filter(({ at }) => isIn(at)).map(({ at }) => `item ${at}`)
    expect(nearest).toHaveLength(passing)
    const filter = { must: [{ key: 'side', match: 'in' }] }
    expect((await found(filter, 4, 300)).map(({ id }) => id)).toEqual(nearest.slice(0, 4))
    expect(await found(filter, 1000, 300)).toHaveLength(passing)
    expect(await found({ must: [{ key: 'side', match: 'elsewhere' }] }, 4, 300)).toEqual([])
  })

  it('sees a replacement or removal as soon as it is acknowledged', async () => {
    const [left, right] = [
      { must: [{ key: 'side', match: 'left' }] },
      { must: [{ key: 'side', match: 'right' }] },
    ]
    const many = { must: [{ key: 'count', range: { gte: 5 } }] }
    await Promise.all(['x', 'y'].map((id, at) => put(itemOf(id, at, { side: 'left', count: 0 }))))
    for (let count = 1; count < 9; count += 1) {
      await put(itemOf('a', count, { side: count % 2 === 0 ? 'left' : 'right', count }))
      expect([await ids(left), await ids(right), await ids(many)]).toEqual([
        count % 2 === 0 ? 'axy' : 'xy',
        count % 2 === 0 ? '' : 'a',
        count < 5 ? '' : 'a',
      ])
      if (count >= 5) expect((await found(many, 1, count))[0]?.similarity).toBeCloseTo(1, 4)
    }
    await put(itemOf('a', 1, null))
    expect([
      await ids(left),
      await ids(right),
      await ids({ must: [{ key: 'side', exists: false }] }),
    ]).toEqual(['xy', '', 'a'])
    await collection.remove('x')
    await collection.remove('a')
    expect([await ids(left), await ids(right), await ids({})]).toEqual(['y', '', 'y'])
    await put(itemOf('x', 1, { side: 'right' }))
    expect([
      await ids(left),
      await ids(right),
      await ids({ must_not: [{ key: 'side', match: 'left' }] }),
    ]).toEqual(['y', 'x', 'x'])
  })

  it('selects the right items after concurrent writes', async () => {
    const sideOf = (at: number): string => (at % 3 === 0 ? 'left' : 'right')
    await Promise.all(
      Array.from({ length: 90 }, (_, at) =>
        put(itemOf(`item ${at % 30}`, at, { side: sideOf(at + 1), at })),
      ),
    )
    await Promise.all(Array.from({ length: 10 }, (_, at) => collection.remove(`item ${at}`)))
    const expected = Array.from({ length: 20 }, (_, i) => i + 70).filter(
      (at) => sideOf(at + 1) === 'left',
    )
    const left = await found({ must: [{ key: 'side', match: 'left' }] })
    expect(left.map(({ id }) => id).sort()).toEqual(expected.map((at) => `item ${at % 30}`).sort())
  })
})
