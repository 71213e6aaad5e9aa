/** Dot products by SIMD, the top k and the sample of a graph, each against a direct computation. */
import { describe, expect, it } from 'vitest'
import { ASSEMBLED } from '../../src/vector-index/packed-rows.js'
import { TopK } from '../../src/vector-index/top-k.js'
import { PackedRows } from '../../src/vector-index/packed-rows.js'
import { RecallSample } from '../../src/vector-index/recall-sample.js'
import { assembled } from '../support/assembled.js'
import { randomEmbeddings, randomNumbers } from '../support/random-embeddings.js'

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, at) => sum + value * (b[at] as number), 0)
}

describe('the assembled dot products', () => {
  it('equal their source', async () => {
    expect(
      await assembled(new URL('../../src/vector-index/dot-products.wat', import.meta.url)),
    ).toBe(ASSEMBLED)
  })
})

describe('packed rows', () => {
  it.each([1, 15, 16, 17, 384])('of %d values give the dot products of the definition', (dim) => {
    const rows = new PackedRows(dim)
    const embeddings = randomEmbeddings(5000, dim)
    embeddings.forEach((embedding, row) => rows.set(row, embedding))
    for (const query of randomEmbeddings(2, dim, 9)) {
      let next = 0
      rows.compare(query, (row, similarity) => {
        expect(row).toBe(next++)
        expect(Math.abs(similarity - dot(query, embeddings[row] as Float32Array))).toBeLessThan(
          1e-4,
        )
      })
      expect(next).toBe(5000)
    }
  })

  it('reflect rows that were replaced, emptied, copied and cut', () => {
    const rows = new PackedRows(2)
    for (let row = 0; row < 5; row += 1) rows.set(row, Float32Array.of(row, 1))
    rows.set(1, Float32Array.of(10, 0))
    rows.empty(2)
    rows.copy(4, 0)
    rows.cut(4)
    const found: number[] = []
    rows.compare(Float32Array.of(1, 0), (_, similarity) => found.push(similarity))
    expect(found).toEqual([4, 10, Number.NaN, 3])
  })
})

describe('TopK', () => {
  it.each([1, 2, 7, 500])('keeps the %d highest of many, as sorting does', (limit) => {
    const next = randomNumbers(limit)
    const similarities = Array.from({ length: 1000 }, () =>
      next() < 0.1 ? Number.NaN : Math.round(next() * 200) / 100 - 1,
    )
    const nearest = new TopK(limit)
    similarities.forEach((similarity, label) => nearest.offer(label, similarity))
    const found = nearest.sorted()
    const sorted = similarities.filter((one) => !Number.isNaN(one)).sort((a, b) => b - a)
    expect(found.similarities).toEqual(sorted.slice(0, limit))
    expect(found.labels.map((label) => similarities[label])).toEqual(found.similarities)
    expect(new Set(found.labels).size).toBe(limit)
  })

  it('keeps all if there are fewer than the limit', () => {
    const nearest = new TopK(10)
    for (const similarity of [0.1, 0.3, 0.2]) nearest.offer(similarity * 10, similarity)
    expect(nearest.sorted().labels).toEqual([3, 2, 1])
  })
})

describe('RecallSample', () => {
  const embeddings = randomEmbeddings(1000, 8)
  const [query] = randomEmbeddings(1, 8, 5) as [Float32Array]

  function sampled(labels: number, sampleRows: number): RecallSample {
    const sample = new RecallSample({ dim: 8, sampleRows })
    for (let label = 0; label < labels; label += 1)
      sample.add(label, embeddings[label] as Float32Array)
    return sample
  }

  const all = (sample: RecallSample, end = 1000): number[] => sample.above(query, -Infinity, end)

  it('has all labels up to its bound, then every n-th', () => {
    expect(sampled(64, 64)).toMatchObject({ isWhole: true, count: 64 })
    const sample = sampled(1000, 64)
    expect(sample).toMatchObject({ isWhole: false, every: 16, count: 63 })
    expect(all(sample)).toEqual(Array.from({ length: 63 }, (_, at) => 16 * at))
    expect(all(sample, 33)).toEqual([0, 16, 32])
  })

  it('is the same if the number of labels is known in advance', () => {
    const sample = new RecallSample({ dim: 8, sampleRows: 64 }, 1000)
    for (let label = 0; label < 1000; label += sample.every)
      sample.add(label, embeddings[label] as Float32Array)
    expect(all(sample)).toEqual(all(sampled(1000, 64)))
  })

  it('finds the similarities of its labels, without deleted ones', () => {
    const sample = sampled(500, 200)
    sample.delete(8)
    sample.delete(9)
    const found = sample.search(query, 200)
    expect([...found.labels].sort((a, b) => a - b)).toEqual(all(sample))
    expect(found.labels).not.toContain(8)
    found.labels.forEach((label, at) => {
      expect(found.similarities[at]).toBeCloseTo(
        Math.max(-1, Math.min(1, dot(query, embeddings[label] as Float32Array))),
        5,
      )
    })
  })
})
