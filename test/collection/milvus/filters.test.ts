/** Filters in Milvus against the reference implementation, with hostile keys and values. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Condition, Filter } from '../../../src/filter/filter.js'
import { testOf } from '../../../src/filter/matches.js'
import { openMilvus } from '../../../src/collection/milvus/items.js'
import type { MilvusItems } from '../../../src/collection/milvus/milvus.js'
import { hasMilvus, Milvus, withoutMilvus } from '../../support/milvus.js'

vi.setConfig({ testTimeout: 60_000 })

const DIM = 4
const RUNS = 150
const NAMES = ['a', 'b', 'naïve key', 'x.y', 'constructor', 'or 1 == 1']
/** Only for match and exists, which never write keys into an expression. */
const HOSTILE_NAMES = [
  ...NAMES,
  '"',
  'a"] == 1 or payload["a',
  "'",
  '\\',
  '][',
  '/',
  '~1',
  '$meta',
  '',
  '\n',
  '\u0000',
]
const TEXTS = [
  'sea',
  'Sea',
  '',
  '1',
  'true',
  '"',
  '\\',
  '\\"',
  '" or id != "',
  "'",
  '%',
  'line\nbreak',
  '\t',
  'é',
  '\ud83d\ude00',
  '{x}',
]

const scalar = fc.oneof(
  fc.constantFrom(...TEXTS),
  fc.constantFrom(0, 1, -1, 2.5, 1e21, -1e-7, 9_007_199_254_740_991),
  fc.boolean(),
)
const payloads = fc.option(
  fc.dictionary(
    fc.constantFrom(...HOSTILE_NAMES),
    fc.oneof(
      scalar,
      fc.constant(null),
      fc.array(fc.oneof(scalar, fc.constant(null)), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...NAMES), scalar, { maxKeys: 3 }),
    ),
    { maxKeys: 5 },
  ),
  { freq: 9 },
)

const pathOf = (names: readonly string[]): fc.Arbitrary<string[]> =>
  fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 2 })
const bound = <Value extends number | string>(value: fc.Arbitrary<Value>) =>
  fc.array(fc.record({ than: fc.constantFrom('gt', 'gte', 'lt', 'lte'), value }), {
    minLength: 1,
    maxLength: 2,
  })
const { filter: filters } = fc.letrec<{
  filter: Filter
  condition: Condition
  conditions: Condition[]
}>((tie) => ({
  condition: fc.oneof(
    { depthSize: 'small' },
    fc.record({
      kind: fc.constant('match'),
      path: pathOf(HOSTILE_NAMES),
      values: fc.array(scalar, { minLength: 1, maxLength: 3 }),
    }),
    fc.record({ kind: fc.constant('exists'), path: pathOf(HOSTILE_NAMES), exists: fc.boolean() }),
    fc.record({
      kind: fc.constant('range'),
      path: pathOf(NAMES),
      bounds: fc.oneof(
        bound(fc.constantFrom(...TEXTS)),
        bound(fc.constantFrom(0, 1, 2.5, -1e-7, 1e21, 1e20, 9_007_199_254_740_991)),
      ),
    }),
    fc.record({ kind: fc.constant('filter'), filter: tie('filter') }),
  ),
  conditions: fc.array(tie('condition'), { maxLength: 2 }),
  filter: fc.record({
    must: tie('conditions'),
    should: tie('conditions'),
    mustNot: tie('conditions'),
  }),
}))

describe.skipIf(!hasMilvus)(`a filter in Milvus ${withoutMilvus}`, { timeout: 60_000 }, () => {
  const stored = new Map(
    fc.sample(payloads, { numRuns: 60, seed: 7 }).map((payload, at) => [`item ${at}`, payload]),
  )
  const query = Float32Array.of(1, 0, 0, 0)
  let milvus: Milvus
  let items: MilvusItems

  beforeAll(async () => {
    milvus = await Milvus.start()
    const images = {
      put: () => Promise.resolve('key'),
      get: () => Promise.resolve(undefined),
      remove: () => Promise.resolve(),
    }
    items = await openMilvus({
      ...milvus.settings,
      fingerprint: '0123456789abcdef',
      dim: DIM,
      images,
    })
    const image = { bytes: new Uint8Array(1), mime: 'image/jpeg', width: 1, height: 1 }
    const embedding = Float32Array.of(0.6, 0.8, 0, 0)
    const puts = [...stored].map(([id, payload]) =>
      items.put({ id, payload, embedding, imageTokens: new Int8Array(4), image }),
    )
    await Promise.all(puts)
  })
  afterAll(async () => {
    await items.close()
    await milvus.end()
  })

  const found = async (filter: Filter): Promise<string[]> =>
    (await items.recall(query, 1000, { filter })).map(({ id }) => id).sort()
  const expected = (filter: Filter): string[] => {
    const test = testOf(filter)
    return [...stored]
      .filter(([, payload]) => test(payload))
      .map(([id]) => id)
      .sort()
  }

  it('selects the same items as the reference', async () => {
    let selective = 0
    const property = fc.asyncProperty(filters, async (filter) => {
      const ids = expected(filter)
      if (ids.length > 0 && ids.length < stored.size) selective += 1
      expect(await found(filter)).toEqual(ids)
    })
    await fc.assert(property, { numRuns: RUNS })
    expect(selective).toBeGreaterThan(RUNS / 10)
  })

  it('with a range over a key that an expression cannot name is refused', async () => {
    for (const name of ['"', 'a"] > 0 or payload["a', '\\', '][', 'a/b', '~0', '\u0000', '']) {
      const range: Condition = {
        kind: 'range',
        path: ['a', name],
        bounds: [{ than: 'gt', value: 0 }],
      }
      const recalled = items.recall(query, 10, {
        filter: { must: [range], should: [], mustNot: [] },
      })
      await expect(recalled, name).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringContaining(JSON.stringify(name)) as string,
      })
    }
  })

  it('limits a payload to the terms that Milvus can store', async () => {
    const list = Array.from({ length: 5000 }, (_, at) => at)
    const item = {
      id: 'many',
      embedding: query,
      imageTokens: new Int8Array(4),
      image: { bytes: new Uint8Array(1), mime: 'image/jpeg', width: 1, height: 1 },
    }
    await expect(items.put({ ...item, payload: { list } })).rejects.toMatchObject({
      code: 'payload_invalid',
    })
    expect(await items.getMany(['many'])).toEqual([undefined])
  })
})
