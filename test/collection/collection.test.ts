/** The contract of `Collection`, held by every kind that stores items. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Collection } from '../../src/collection/collection.js'
import type { NewItem } from '../../src/item-store/item-store.js'
import { embeddings, fingerprint, itemOf, kinds, type Opened } from '../support/collection-kinds.js'
import { cosine } from '../support/random-embeddings.js'

const COSINE_TOLERANCE = 1e-4

/** The order of lists. */
const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

describe.each(kinds)('a collection $kind', { timeout: 30_000 }, ({ open }) => {
  let opened: Opened
  let collection: Collection

  const put = (item: NewItem) => collection.put(item, fingerprint)
  const read = <Value>(
    use: (lease: ReturnType<Collection['acquire']>) => Promise<Value>,
  ): Promise<Value> => {
    using lease = collection.acquire()
    return use(lease)
  }
  const recall = (at: number, candidates: number) =>
    read(({ items }) => items.recall(embeddings[at] as Float32Array, candidates))
  const listed = async (): Promise<string[]> =>
    (await read(({ items }) => items.list({ limit: 1000 }))).map(({ id }) => id)

  beforeAll(async () => {
    opened = await open()
    collection = opened.collection
    await collection.start()
  })
  afterAll(() => opened.end())
  beforeEach(async () => {
    await Promise.all((await listed()).map((id) => collection.remove(id)))
  })

  it('has no items at first', async () => {
    expect(await recall(0, 10)).toEqual([])
    expect(await read(({ items }) => items.getMany(['a']))).toEqual([undefined])
    expect(await read(({ items }) => items.image('a'))).toBeUndefined()
    expect(await listed()).toEqual([])
    expect(await collection.remove('a')).toBe(false)
  })

  it('returns an item as it was stored', async () => {
    const addedAt = '2024-05-06T07:08:09.123Z'
    const item = itemOf('a', 3, {
      title: 'é海😀',
      list: [1, 'x', null, { y: false }],
      nested: { deep: 1e-7, big: 9_007_199_254_740_991 },
    })
    expect(await put({ ...item, addedAt })).toBe('created')
    const [found, none] = await read(({ items }) => items.getMany(['a', 'b']))
    const { image, ...rest } = item
    const { bytes, ...about } = image
    const expected = { ...rest, addedAt, image: { ...about, size: bytes.length } }
    expect(found).toMatchObject({ ...expected, embedding: expect.any(Float32Array) as object })
    expect(cosine(found?.embedding as Float32Array, item.embedding)).toBeCloseTo(1, 5)
    expect(found?.imageTokens).toEqual(item.imageTokens)
    expect(none).toBeUndefined()
    expect(Buffer.from((await read(({ items }) => items.image('a'))) ?? [])).toEqual(
      Buffer.from(bytes),
    )
  })

  it('distinguishes no payload from an empty one', async () => {
    await put(itemOf('none', 1, null))
    await put(itemOf('empty', 2, {}))
    const found = await read(({ items }) => items.getMany(['none', 'empty']))
    expect(found.map((item) => item?.payload)).toEqual([null, {}])
    expect(await read(({ items }) => items.payloads(['empty', 'gone', 'none']))).toEqual([
      {},
      undefined,
      null,
    ])
  })

  it('records when an item was added', async () => {
    const before = Date.now()
    await put(itemOf('a', 1))
    const [item] = await read(({ items }) => items.list({ limit: 1 }))
    expect(Date.parse(item?.addedAt ?? '')).toBeGreaterThanOrEqual(before)
    expect(Date.parse(item?.addedAt ?? '')).toBeLessThanOrEqual(Date.now())
  })

  it('replaces every part of an item', async () => {
    expect(await put(itemOf('a', 1, { old: true }))).toBe('created')
    expect(await put(itemOf('a', 2, { new: true }))).toBe('replaced')
    const [item] = await read(({ items }) => items.getMany(['a']))
    expect(item).toMatchObject({
      payload: { new: true },
      image: { height: 32 },
      imageTokens: itemOf('a', 2).imageTokens,
    })
    expect(Buffer.from((await read(({ items }) => items.image('a'))) ?? [])).toEqual(
      Buffer.from(itemOf('a', 2).image.bytes),
    )
    const [nearest, ...others] = await recall(2, 10)
    expect(nearest).toMatchObject({ id: 'a' })
    expect(nearest?.similarity).toBeCloseTo(1, 4)
    expect(others).toEqual([])
  })

  it('removes an item so that it can be created again', async () => {
    await put(itemOf('a', 1))
    expect(await collection.remove('a')).toBe(true)
    expect(await collection.remove('a')).toBe(false)
    expect(await recall(1, 10)).toEqual([])
    expect(await read(({ items }) => items.getMany(['a']))).toEqual([undefined])
    expect(await read(({ items }) => items.image('a'))).toBeUndefined()
    expect(await put(itemOf('a', 1))).toBe('created')
  })

  it('recalls the nearest items by cosine, best first', async () => {
    await Promise.all(embeddings.slice(0, 200).map((_, at) => put(itemOf(`item ${at}`, at))))
    for (const at of [250, 300, 350]) {
      const query = embeddings[at] as Float32Array
      const truth = Array.from({ length: 200 }, (_, i) => ({
        id: `item ${i}`,
        similarity: cosine(query, embeddings[i] as Float32Array),
      }))
      truth.sort((a, b) => b.similarity - a.similarity)
      const found = await recall(at, 20)
      expect(found.map(({ id }) => id)).toEqual(truth.slice(0, 20).map(({ id }) => id))
      found.forEach(({ similarity }, i) =>
        expect(Math.abs(similarity - (truth[i]?.similarity ?? 2))).toBeLessThan(COSINE_TOLERANCE),
      )
    }
    expect(await recall(250, 1000)).toHaveLength(200)
    using lease = collection.acquire()
    expect(lease.items.size).toBe(200)
  })

  it('lists items in pages, in the byte order of their ids', async () => {
    const ids = ['b', 'a', 'B', 'é', '😀', '海', 'a/b', 'a b', 'ab', '~', '1', '10', '2']
    await Promise.all(ids.map((id, at) => put(itemOf(id, at))))
    const sorted = [...ids].sort(byBytes)
    const pages: string[][] = []
    for (let after: string | undefined; ; after = pages.at(-1)?.at(-1)) {
      const page = await read(({ items }) => items.list({ after, limit: 5 }))
      if (page.length === 0) break
      pages.push(page.map(({ id }) => id))
    }
    expect(pages.flat()).toEqual(sorted)
    expect(pages.map(({ length }) => length)).toEqual([5, 5, 3])
    const afterNone = await read(({ items }) => items.list({ after: 'a!', limit: 2 }))
    expect(afterNone.map(({ id }) => id)).toEqual(['a/b', 'ab'])
  })

  it('stores ids that look like syntax', async () => {
    const ids = [
      '"',
      "'",
      '\\',
      '\\"',
      '"] or id != "',
      "'; drop collection tandem; --",
      '%',
      '_',
      '{id}',
      '$meta',
      '`',
      '..a',
      'null',
      'true',
      '\u202e',
      'a\u0301',
      'á',
      '\ud83d\udc69\u200d\ud83d\udc67',
      '[1]',
      'id in ["x"]',
      '𝄞'.repeat(256),
    ]
    for (const [at, id] of ids.entries()) expect(await put(itemOf(id, at))).toBe('created')
    expect(await listed()).toEqual([...ids].sort(byBytes))
    expect((await recall(0, 1000)).map(({ id }) => id).sort(byBytes)).toEqual(
      [...ids].sort(byBytes),
    )
    for (const [at, id] of ids.entries()) {
      const found = await read(({ items }) => items.getMany([id]))
      expect(found.map((item) => item?.payload)).toEqual([{ at }])
    }
    for (const id of ids) expect(await collection.remove(id)).toBe(true)
    expect(await listed()).toEqual([])
  })

  it('stores payloads that look like syntax', async () => {
    const payloads: NewItem['payload'][] = [
      { '': 1, ' ': 2, 'a.b': 3, 'a"]': 4, "it's": 5, '\\': 6, $meta: 7, '\n': 8, '\u0000': 9 },
      { text: 'line\nbreak\ttab "quoted" \\ back \u0000 \u202e 😀' },
      { list: [[[]], {}, [null]], empty: {}, none: null, no: false, zero: 0, minus: -0.5 },
      { long: 'x'.repeat(65_000) },
      Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`key ${i}`, i])),
    ]
    for (const [at, payload] of payloads.entries()) await put(itemOf(`p${at}`, at, payload))
    const found = await read(({ items }) => items.getMany(payloads.map((_, at) => `p${at}`)))
    expect(found.map((item) => item?.payload)).toEqual(payloads)
  })

  it('applies concurrent writes so that the last one of each item wins', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 120 }, (_, at) => put(itemOf(`item ${at % 40}`, at))),
    )
    expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(40)
    const removed = await Promise.all(
      Array.from({ length: 20 }, (_, at) => collection.remove(`item ${at}`)),
    )
    expect(removed.every(Boolean)).toBe(true)
    const found = await read(({ items }) =>
      items.getMany(Array.from({ length: 40 }, (_, at) => `item ${at}`)),
    )
    expect(found.map((item) => item?.payload?.['at'])).toEqual(
      Array.from({ length: 40 }, (_, at) => (at < 20 ? undefined : at + 80)),
    )
    expect((await recall(100, 20)).find(({ id }) => id === 'item 20')?.similarity).toBeCloseTo(1, 4)
  })

  it('never shows a partial replacement to a concurrent reader', async () => {
    await put(itemOf('a', 0))
    let isOver = false
    const writing = (async () => {
      for (let at = 1; at < 25; at += 1) await put(itemOf('a', at))
      isOver = true
    })()
    let reads = 0
    while (!isOver) {
      const [item] = await read(({ items }) => items.getMany(['a']))
      const at = item?.payload?.['at'] as number
      expect(item?.imageTokens).toEqual(itemOf('a', at).imageTokens)
      expect(item?.image.height).toBe(30 + at)
      const bytes = (await read(({ items }) => items.image('a'))) ?? new Uint8Array()
      expect(bytes).toHaveLength(900)
      const first = bytes[0] as number
      expect(Buffer.from(bytes)).toEqual(Buffer.from(itemOf('a', first).image.bytes))
      reads += 1
      // Embedded reads never yield, and the writer has to run.
      await new Promise((resolve) => setImmediate(resolve))
    }
    await writing
    expect(reads).toBeGreaterThan(0)
  })

  it('recalls nothing from an engine for an aborted call', async () => {
    const signal = AbortSignal.abort(new Error('gone'))
    await put(itemOf('a', 1))
    const asked = read(({ items }) => items.recall(embeddings[1] as Float32Array, 1, { signal }))
    // An embedded collection answers at once and ignores the signal.
    if (collection.engine !== null) await expect(asked).rejects.toThrow('gone')
    else expect(await asked).toHaveLength(1)
  })
})
