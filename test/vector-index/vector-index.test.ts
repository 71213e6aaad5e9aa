/** The contract of the vector index, for each kind. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openVectorIndex } from '../../src/vector-index/open.js'
import type { VectorIndex } from '../../src/vector-index/vector-index.js'
import { cosine, randomEmbeddings, randomNumbers } from '../support/random-embeddings.js'

vi.setConfig({ testTimeout: 60_000 })

const DIM = 24
const COSINE_TOLERANCE = 1e-5
/** Share of the exact top k that an index has to find on such data. */
const LEAST_ANN_RECALL = 0.98

const kinds = {
  exact: { kind: 'exact' },
  hnsw: { kind: 'hnsw' },
  // With so small a sample only the graph answers.
  'hnsw without exact searches': { kind: 'hnsw', sampleRows: 8 },
} as const

describe.each(Object.entries(kinds))('the index %s', (_, options) => {
  let folder: string
  let index: VectorIndex

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tandem-index-'))
    index = await openVectorIndex({
      ...options,
      folder,
      dim: DIM,
      fingerprint: 'aaaa',
      storeIdentity: 'store',
    })
  })

  afterEach(async () => {
    await index.close()
    await rm(folder, { recursive: true, force: true })
  })

  const entriesOf = (
    embeddings: readonly Float32Array[],
    prefix = 'item',
  ): { id: string; embedding: Float32Array }[] =>
    embeddings.map((embedding, i) => ({ id: `${prefix} ${i}`, embedding }))

  const idsOf = async (query: Float32Array, candidates: number): Promise<string[]> =>
    (await index.search(query, candidates)).map(({ id }) => id)

  it('returns nothing while it is empty', async () => {
    expect(await index.search(randomEmbeddings(1, DIM)[0] as Float32Array, 10)).toEqual([])
    expect([index.size, index.position, [...index.ids()]]).toEqual([0, 0, []])
  })

  it('finds the nearest by cosine, best first, for embeddings of any length', async () => {
    const embeddings = randomEmbeddings(400, DIM).map((embedding, i) =>
      embedding.map((value) => value * (1 + (i % 7))),
    )
    await index.upsert(entriesOf(embeddings), 400)
    for (const query of randomEmbeddings(5, DIM, 99)) {
      const found = await index.search(query, 20)
      expect(found).toHaveLength(20)
      for (const { id, similarity } of found) {
        const embedding = embeddings[Number(id.split(' ')[1])] as Float32Array
        expect(Math.abs(similarity - cosine(query, embedding))).toBeLessThan(COSINE_TOLERANCE)
      }
      const similarities = found.map(({ similarity }) => similarity)
      expect(similarities).toEqual([...similarities].sort((a, b) => b - a))
    }
  })

  it('finds what a full comparison finds', async () => {
    const embeddings = randomEmbeddings(1500, DIM)
    await index.upsert(entriesOf(embeddings), 1500)
    const queries = randomEmbeddings(40, DIM, 5)
    let common = 0
    for (const query of queries) {
      const truth = embeddings
        .map((embedding, i) => ({ id: `item ${i}`, similarity: cosine(query, embedding) }))
        .sort((a, b) => b.similarity - a.similarity)
        .slice(0, 10)
        .map(({ id }) => id)
      const found = new Set(await idsOf(query, 10))
      common += truth.filter((id) => found.has(id)).length
    }
    expect(common / (10 * queries.length)).toBeGreaterThanOrEqual(LEAST_ANN_RECALL)
  })

  it('returns an item itself first with similarity 1, and its opposite last with -1', async () => {
    const [first, ...others] = randomEmbeddings(50, DIM) as [Float32Array, ...Float32Array[]]
    const opposite = first.map((value) => -value)
    await index.upsert(
      [
        { id: 'one', embedding: first },
        { id: 'opposite', embedding: opposite },
        ...entriesOf(others),
      ],
      51,
    )
    const found = await index.search(first, 51)
    expect(found[0]?.id).toBe('one')
    expect(found[0]?.similarity).toBeCloseTo(1, 5)
    expect(found.at(-1)?.id).toBe('opposite')
    expect(found.at(-1)?.similarity).toBeCloseTo(-1, 5)
  })

  it('returns all items if there are fewer than candidates', async () => {
    await index.upsert(entriesOf(randomEmbeddings(30, DIM)), 30)
    const found = await idsOf(randomEmbeddings(1, DIM, 3)[0] as Float32Array, 1_000_000)
    expect([...found].sort()).toEqual([...index.ids()].sort())
    expect(found).toHaveLength(30)
  })

  it('returns all unchanged items during concurrent changes', async () => {
    const embeddings = randomEmbeddings(60, DIM)
    const steady = entriesOf(embeddings.slice(0, 30), 'steady')
    await index.upsert(steady, 30)
    const searches: Promise<string[]>[] = []
    const changes: Promise<void>[] = []
    for (let round = 0; round < 30; round += 1) {
      searches.push(idsOf(embeddings[round] as Float32Array, 1000))
      const entry = {
        id: `changing ${round % 7}`,
        embedding: embeddings[30 + round] as Float32Array,
      }
      const gone = [`changing ${(round - 1) % 7}`]
      changes.push(
        round % 3 === 2 ? index.remove(gone, 31 + round) : index.upsert([entry], 31 + round),
      )
      searches.push(idsOf(embeddings[round] as Float32Array, 1000))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await Promise.all(changes)
    for (const found of await Promise.all(searches))
      expect(steady.filter(({ id }) => !found.includes(id))).toEqual([])
  })

  it('finds each of many equal embeddings', async () => {
    const [same] = randomEmbeddings(1, DIM) as [Float32Array]
    await index.upsert(entriesOf(Array.from({ length: 300 }, () => same)), 300)
    expect(new Set(await idsOf(same, 300)).size).toBe(300)
  })

  it('grows beyond its first capacity', async () => {
    const embeddings = randomEmbeddings(2600, DIM)
    await index.upsert(entriesOf(embeddings), 2600)
    expect(index.size).toBe(2600)
    expect(await idsOf(embeddings[2599] as Float32Array, 1)).toEqual(['item 2599'])
  })

  it('finds the new embedding of a replaced item, not the old one', async () => {
    const [before, after, other] = randomEmbeddings(3, DIM) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ]
    await index.upsert(
      [
        { id: 'a', embedding: before },
        { id: 'b', embedding: other },
      ],
      2,
    )
    await index.upsert([{ id: 'a', embedding: after }], 3)
    expect([index.size, index.position]).toEqual([2, 3])
    const found = await index.search(before, 10)
    expect(found.map(({ id }) => id).sort()).toEqual(['a', 'b'])
    expect(found.find(({ id }) => id === 'a')?.similarity).toBeCloseTo(cosine(before, after), 5)
  })

  it('keeps the last of two entries with one id', async () => {
    const [first, last] = randomEmbeddings(2, DIM) as [Float32Array, Float32Array]
    await index.upsert(
      [
        { id: 'a', embedding: first },
        { id: 'a', embedding: last },
      ],
      2,
    )
    const found = await index.search(last, 10)
    expect(found).toHaveLength(1)
    expect(found[0]?.similarity).toBeCloseTo(1, 5)
  })

  it('does not return removed items, and ignores unknown ids', async () => {
    const embeddings = randomEmbeddings(100, DIM)
    await index.upsert(entriesOf(embeddings), 100)
    await index.remove(['item 3', 'nothing', 'item 3'], 101)
    expect([index.size, index.position, index.has('item 3'), index.has('item 4')]).toEqual([
      99,
      101,
      false,
      true,
    ])
    expect(await idsOf(embeddings[3] as Float32Array, 100)).not.toContain('item 3')
    expect(await idsOf(embeddings[3] as Float32Array, 100)).toHaveLength(99)
  })

  it('can be emptied and filled again', async () => {
    const embeddings = randomEmbeddings(20, DIM)
    await index.upsert(entriesOf(embeddings), 20)
    await index.remove([...index.ids()], 40)
    expect(await idsOf(embeddings[0] as Float32Array, 5)).toEqual([])
    await index.upsert(entriesOf(embeddings), 60)
    expect(await idsOf(embeddings[0] as Float32Array, 1)).toEqual(['item 0'])
  })

  it('answers correctly after many replacements and removals', async () => {
    const next = randomNumbers(11)
    const present = new Map<string, Float32Array>()
    const embeddings = randomEmbeddings(1600, DIM, 21)
    for (let round = 0; round < 16; round += 1) {
      const entries = embeddings
        .slice(round * 100, (round + 1) * 100)
        .map((embedding) => ({ id: `item ${Math.floor(next() * 150)}`, embedding }))
      for (const { id, embedding } of entries) present.set(id, embedding)
      const removed = [...present.keys()].filter(() => next() < 0.2)
      for (const id of removed) present.delete(id)
      // A search runs during the changes.
      const during = index.search(entries[0]?.embedding as Float32Array, 10)
      await Promise.all([
        index.upsert(entries, round * 2 + 1),
        index.remove(removed, round * 2 + 2),
        during,
      ])
    }
    expect([...index.ids()].sort()).toEqual([...present.keys()].sort())
    let firsts = 0
    for (const [id, embedding] of present) {
      const found = await index.search(embedding, 10)
      for (const hit of found) {
        expect(
          Math.abs(hit.similarity - cosine(embedding, present.get(hit.id) as Float32Array)),
        ).toBeLessThan(COSINE_TOLERANCE)
      }
      if (found[0]?.id === id) firsts += 1
    }
    expect(firsts / present.size).toBeGreaterThanOrEqual(LEAST_ANN_RECALL)
  })

  describe('refuses without a change', () => {
    const [fine] = randomEmbeddings(1, DIM) as [Float32Array]

    it.each([
      [
        'another number of values',
        new Float32Array(DIM + 1).fill(1),
        /has 25 values; this index takes 24/,
      ],
      ['NaN', fine.map((value, i) => (i === 5 ? Number.NaN : value)), /not a finite number/],
      [
        'infinity',
        fine.map((value, i) => (i === 5 ? Number.POSITIVE_INFINITY : value)),
        /not a finite number/,
      ],
      ['length zero', new Float32Array(DIM), /length zero/],
    ])('an embedding with %s', async (_, embedding, sentence) => {
      await expect(
        index.upsert(
          [
            { id: 'good', embedding: fine },
            { id: 'bad', embedding },
          ],
          2,
        ),
      ).rejects.toThrow(sentence)
      expect([index.size, index.position]).toEqual([0, 0])
      await index.upsert([{ id: 'good', embedding: fine }], 1)
      await expect(index.search(embedding, 1)).rejects.toThrow(sentence)
      expect(await idsOf(fine, 1)).toEqual(['good'])
    })

    it.each([0, -1, 1.5, Number.NaN])('%s candidates', async (candidates) => {
      await expect(index.search(fine, candidates)).rejects.toThrow(/positive whole number/)
    })
  })
})
