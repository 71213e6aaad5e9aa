import { describe, expect, it } from 'vitest'
import { HistogramChange, quantile, slope } from './figures.js'

describe('figures', () => {
  it('quantile returns the value that a share does not exceed', () => {
    const values = [5, 1, 4, 2, 3]
    expect([0.2, 0.5, 0.99, 1].map((share) => quantile(values, share))).toEqual([1, 3, 5, 5])
    expect(quantile([], 0.5)).toBeNaN()
  })

  it('slope fits a line', () => {
    expect(
      slope([
        [0, 1],
        [1, 3],
        [2, 5],
      ]),
    ).toBeCloseTo(2)
    expect(
      slope([
        [0, 7],
        [1, 6],
        [2, 8],
        [3, 7],
      ]),
    ).toBeCloseTo(0.2)
    expect(
      slope([
        [0, 7],
        [5, 7],
      ]),
    ).toBe(0)
  })

  it('HistogramChange counts between two scrapes and ignores other metrics', () => {
    const before = new Map([
      ['x_bucket{le="0.1"}', 100],
      ['x_bucket{le="0.5"}', 100],
      ['x_bucket{le="+Inf"}', 100],
      ['x_count', 100],
    ])
    const after = new Map([
      ['x_bucket{le="0.1"}', 190],
      ['x_bucket{le="0.5"}', 199],
      ['x_bucket{le="+Inf"}', 200],
      ['x_count', 200],
      ['xx_bucket{le="0.01"}', 1000],
    ])
    const change = new HistogramChange('x', before, after)
    expect(change.count).toBe(100)
    expect([0.5, 0.9, 0.95, 0.99, 0.999].map((share) => change.quantile(share))).toEqual([
      0.1,
      0.1,
      0.5,
      0.5,
      Infinity,
    ])
    expect(change.shareUpTo(0.1)).toBe(0.9)
    expect(change.shareUpTo(0.2)).toBeNaN()
  })
})
