import { describe, expect, it } from 'vitest'
import { RerankEstimate } from '../../src/retrieval/rerank-estimate.js'

describe('the pairs that a search is expected to match', () => {
  it('are all candidates until a search has told otherwise', () => {
    const expected = new RerankEstimate()
    expect(expected.pairs({ k: 10, candidates: 64 })).toBe(64)
    expect(expected.pairs({ k: 10, candidates: 3 })).toBe(3)
  })

  it('come near to what searches match, whatever k they ask for', () => {
    const expected = new RerankEstimate()
    for (let search = 0; search < 200; search += 1) expected.observe({ k: 10, candidates: 64 }, 15)
    expect(expected.pairs({ k: 10, candidates: 64 })).toBeLessThanOrEqual(16)
    expect(expected.pairs({ k: 10, candidates: 64 })).toBeGreaterThanOrEqual(15)
    expect(expected.pairs({ k: 40, candidates: 64 })).toBe(43)
    for (let search = 0; search < 200; search += 1) expected.observe({ k: 10, candidates: 64 }, 64)
    expect(expected.pairs({ k: 10, candidates: 64 })).toBe(64)
  })

  it('are never fewer than the hits asked for, and no search changes that', () => {
    const expected = new RerankEstimate()
    for (let search = 0; search < 500; search += 1) {
      expected.observe({ k: 10, candidates: 64 }, 2)
      expected.observe({ k: 10, candidates: 10 }, 10)
    }
    expect(expected.pairs({ k: 10, candidates: 64 })).toBe(11)
    expect(expected.pairs({ k: 80, candidates: 64 })).toBe(64)
  })
})
