import { describe, expect, it } from 'vitest'
import { orderBySimilarity, rankOf, recallFigures } from '../../src/cli/recall.js'

describe('recallFigures', () => {
  it('counts ranks below k, in per cent', () => {
    expect(recallFigures([0, 0, 3, 4, 5, 9, 10, Infinity])).toEqual({ r1: 25, r5: 50, r10: 75 })
  })

  it('agrees with counting queries one by one on random ranks', () => {
    const ranks = Array.from({ length: 500 }, () => Math.floor(Math.random() * 30))
    const { r1, r5, r10 } = recallFigures(ranks)
    for (const [k, figure] of [
      [1, r1],
      [5, r5],
      [10, r10],
    ] as const) {
      let found = 0
      for (const rank of ranks) if (rank <= k - 1) found += 1
      expect(figure).toBeCloseTo((found / ranks.length) * 100, 10)
    }
  })
})

describe('rankOf', () => {
  it('is the index of the first correct entry, or Infinity', () => {
    expect(rankOf(['a', 'b', 'b'], (entry) => entry === 'b')).toBe(1)
    expect(rankOf(['a'], (entry) => entry === 'c')).toBe(Infinity)
  })
})

describe('orderBySimilarity', () => {
  it('puts the highest dot product first', () => {
    const vectors = [
      [0, 1],
      [1, 0],
      [0.6, 0.8],
    ].map((values) => Float32Array.from(values))
    expect(orderBySimilarity(Float32Array.from([1, 0]), vectors)).toEqual([1, 2, 0])
  })
})
