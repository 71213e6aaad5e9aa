import { expect, it } from 'vitest'
import { Backoff } from '../../src/async/backoff.js'

it('doubles the pause up to its maximum and starts over after a reset', () => {
  const backoff = new Backoff(500, 1500)
  const pauses = Array.from({ length: 4 }, () => {
    const { ms } = backoff
    backoff.double()
    return ms
  })
  expect(pauses).toEqual([500, 1000, 1500, 1500])
  backoff.reset()
  expect(backoff.ms).toBe(500)
})

it('spreads jittered pauses from half to one and a half times the pause', () => {
  const backoff = new Backoff(100)
  const pauses = Array.from({ length: 200 }, () => backoff.jitteredMs)
  expect(Math.min(...pauses)).toBeGreaterThanOrEqual(50)
  expect(Math.max(...pauses)).toBeLessThan(150)
  expect(new Set(pauses).size).toBeGreaterThan(100)
})
