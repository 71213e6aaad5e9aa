/**
 * What Milvus finds with a filter is what the reference lets through, whatever keys and values look
 * like.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Condition, Filter } from '../../../src/filter/filter.js'
import { testOf } from '../../../src/filter/matches.js'
import { openMilvus } from '../../../src/collection/milvus/items.js'
import type { MilvusItems } from '../../../src/collection/milvus/milvus.js'
import { hasMilvus, Milvus, withoutMilvus } from '../../support/milvus.js'

const DIM = 4
const RUNS = 150
const NAMES = ['a', 'b', 'naïve key', 'x.y', 'constructor', 'or 1 == 1']
/** Of match and exists alone: they are never written into an expression. */
const STRANGE_NAMES = [
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
    fc.constantFrom(...STRANGE_NAMES),
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
      path: pathOf(STRANGE_NAMES),
      values: fc.array(scalar, { minLength: 1, maxLength: 3 }),
    }),
    fc.record({ kind: fc.constant('exists'), path: pathOf(STRANGE_NAMES), exists: fc.boolean() }),
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

describe.skipIf(!hasMilvus)(`filters in Milvus ${withoutMilvus}`, () => {
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

  it('let through what the reference does', async () => {
    let some = 0
    const property = fc.asyncProperty(filters, async (filter) => {
      const ids = expected(filter)
      if (ids.length > 0 && ids.length < stored.size) some += 1
      expect(await found(filter)).toEqual(ids)
    })
    await fc.assert(property, { numRuns: RUNS })
    expect(some).toBeGreaterThan(RUNS / 10)
  })

  it('refuse a range over a key that an expression cannot name', async () => {
    for (const name of ['"', 'a"] > 0 or payload["a', '\\', '][', 'a/b', '~0', '\u0000', '']) {
      const range: Condition = {
        kind: 'range',
        path: ['a', name],
        bounds: [{ than: 'gt', value: 0 }],
      }
      const asked = items.recall(query, 10, { filter: { must: [range], should: [], mustNot: [] } })
      await expect(asked, name).rejects.toMatchObject({
        code: 'invalid_request',
        message: expect.stringContaining(JSON.stringify(name)) as string,
      })
    }
  })

  it('need a row to keep no more terms than Milvus takes', async () => {
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
