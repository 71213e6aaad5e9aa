import { describe, expect, it } from 'vitest'
import { RerankEstimate } from '../../src/retrieval/rerank-estimate.js'

describe('RerankEstimate', () => {
  it('estimates all candidates before the first search', () => {
    const expected = new RerankEstimate()
    expect(expected.pairs({ k: 10, candidates: 64 })).toBe(64)
    expect(expected.pairs({ k: 10, candidates: 3 })).toBe(3)
  })

  it('approaches the pairs that searches match, for any k', () => {
    const expected = new RerankEstimate()
    for (let search = 0; search < 200; search += 1) expected.observe({ k: 10, candidates: 64 }, 15)
    expect(expected.pairs({ k: 10, candidates: 64 })).toBeLessThanOrEqual(16)
    expect(expected.pairs({ k: 10, candidates: 64 })).toBeGreaterThanOrEqual(15)
    expect(expected.pairs({ k: 40, candidates: 64 })).toBe(43)
    for (let search = 0; search < 200; search += 1) expected.observe({ k: 10, candidates: 64 }, 64)
    expect(expected.pairs({ k: 10, candidates: 64 })).toBe(64)
  })

  it('estimates at least k pairs after any searches', () => {
    const expected = new RerankEstimate()
    for (let search = 0; search < 500; search += 1) {
      expected.observe({ k: 10, candidates: 64 }, 2)
      expected.observe({ k: 10, candidates: 10 }, 10)
    }
    expect(expected.pairs({ k: 10, candidates: 64 })).toBe(11)
    expect(expected.pairs({ k: 80, candidates: 64 })).toBe(64)
  })
})
