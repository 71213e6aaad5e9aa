import { describe, expect, it } from 'vitest'
import { AdaptiveEf } from '../../src/vector-index/adaptive-ef.js'

/** Observes searches that each found `share` of a hundred neighbours. */
function observe(adaptive: AdaptiveEf, share: number, searches = 20): void {
  for (let at = 0; at < searches; at += 1) adaptive.observe(100 * share, 100 * (1 - share))
}

describe('AdaptiveEf', () => {
  it('is at least the number of candidates, and grows with candidates and items', () => {
    const adaptive = new AdaptiveEf(0.9)
    for (let round = 0; round < 100; round += 1) observe(adaptive, 1)
    for (const candidates of [1, 10, 64, 1000])
      expect(adaptive.width(candidates, 10_000)).toBeGreaterThanOrEqual(candidates)
    const fresh = new AdaptiveEf(0.99)
    expect(fresh.width(64, 10_000)).toBeGreaterThan(fresh.width(10, 10_000))
    expect(fresh.width(10, 1_000_000)).toBeGreaterThan(fresh.width(10, 10_000))
  })

  it('has no recall and does not change before 2,000 neighbours', () => {
    const adaptive = new AdaptiveEf(0.99)
    const before = adaptive.width(64, 10_000)
    observe(adaptive, 0.5, 19)
    expect([adaptive.recall, adaptive.width(64, 10_000)]).toEqual([null, before])
    observe(adaptive, 0.5, 1)
    expect(adaptive.recall).toBeCloseTo(0.5)
  })

  it('widens below the target, narrows well above it, and stays between', () => {
    const adaptive = new AdaptiveEf(0.99)
    const widths = [0.98, 0.98, 0.992, 0.9995, 0.9995].map((share) => {
      observe(adaptive, share)
      return adaptive.width(64, 10_000)
    })
    const [once, twice, rested, narrower, narrow] = widths as [
      number,
      number,
      number,
      number,
      number,
    ]
    expect(once).toBeGreaterThan(new AdaptiveEf(0.99).width(64, 10_000))
    expect(twice).toBeGreaterThan(once)
    expect(rested).toBe(twice)
    expect(narrower).toBeLessThan(rested)
    expect(narrow).toBeLessThan(narrower)
  })

  it('stays below its maximum', () => {
    const adaptive = new AdaptiveEf(0.99)
    for (let round = 0; round < 100; round += 1) observe(adaptive, 0)
    const widest = adaptive.width(64, 10_000)
    observe(adaptive, 0)
    expect(adaptive.width(64, 10_000)).toBe(widest)
  })
})
