import { describe, expect, it } from 'vitest'
import { fitMatch, type ScoredPairs } from '../../src/calibration/fit.js'
import { randomNumbers } from '../support/random-embeddings.js'

/** Pairs whose chance to match is a sigmoid of the argument; 20 of each image. */
function drawn(count: number, scale: number, bias: number, seed = 1): ScoredPairs {
  const next = randomNumbers(seed)
  const argument = Float64Array.from({ length: count }, () => 8 * next() - 4)
  return {
    argument,
    match: argument.map((value) => 1 / (1 + Math.exp(-value))),
    isMatch: Uint8Array.from(argument, (value) =>
      Number(next() < 1 / (1 + Math.exp(-scale * value - bias))),
    ),
    image: Int32Array.from(argument, (_, row) => Math.floor(row / 20)),
  }
}

describe('a fitted match', () => {
  it('has the scale of the pairs, and a bias under which matches and misses are as likely', () => {
    const pairs = drawn(20_000, 2.5, -3)
    const { sigmoid } = fitMatch(pairs)
    const matches = pairs.isMatch.reduce((sum, one) => sum + one, 0)
    expect(sigmoid.scale).toBeCloseTo(2.5, 0)
    const prior = Math.log((pairs.isMatch.length - matches) / matches)
    expect(Math.abs(sigmoid.bias - (-3 + prior))).toBeLessThan(0.15)
  })

  it('is better calibrated on images that it was not fitted on', () => {
    const { before, after } = fitMatch(drawn(8000, 0.4, 1.5))
    expect(before.calibrationError).toBeGreaterThan(0.1)
    expect(after.calibrationError).toBeLessThan(0.03)
    expect(after.logLoss).toBeLessThan(before.logLoss)
    expect(after.bins.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1)
  })

  it('is judged without the image at hand: pairs that only an image knows gain nothing', () => {
    // The argument means nothing across images, so no rule helps.
    const pairs = drawn(2000, 0.02, 0, 3)
    const { after } = fitMatch(pairs)
    expect(after.logLoss).toBeGreaterThan(0.68)
  })

  it('stays finite where the argument separates all pairs', () => {
    const pairs = drawn(400, 1, 0)
    pairs.isMatch = Uint8Array.from(pairs.argument, (value) => Number(value > 0))
    const { sigmoid, after } = fitMatch(pairs)
    expect(Number.isFinite(sigmoid.scale)).toBe(true)
    expect(after.calibrationError).toBeLessThan(0.05)
  })

  it('is refused where a higher argument means fewer matches', () => {
    expect(() => fitMatch(drawn(2000, -1, 0))).toThrow(/no better than chance/)
  })
})
