import { describe, expect, it } from 'vitest'
import { CostModel } from '../../../src/model/queue/cost-model.js'

const batch = { graph: 'fusion', weight: 10, milliseconds: 50, bulk: false } as const

describe('the forecast', () => {
  it('expects nothing of a graph that it has not seen', () => {
    const forecast = new CostModel()
    forecast.observe(batch, 0)
    expect(forecast.milliseconds('image', 100)).toBe(0)
    expect(forecast.weightWithin('image', 50)).toBe(1)
  })

  it('goes by the weight, and follows a change within some batches', () => {
    const forecast = new CostModel()
    forecast.observe(batch, 0)
    expect(forecast.milliseconds('fusion', 20)).toBeCloseTo(100)
    expect(forecast.weightWithin('fusion', 50)).toBe(10)
    for (let i = 0; i < 50; i += 1) forecast.observe({ ...batch, milliseconds: 200 }, 0)
    expect(forecast.milliseconds('fusion', 10)).toBeGreaterThan(195)
    expect(forecast.weightWithin('fusion', 1)).toBe(1)
  })

  it('predicts longer bulk work the more time interactive batches took recently', () => {
    const forecast = new CostModel()
    expect(forecast.bulkDelay(0)).toBe(1)
    let now = 0
    for (let i = 0; i < 400; i += 1) forecast.observe({ ...batch, milliseconds: 25 }, (now += 50))
    expect(forecast.bulkDelay(now)).toBeGreaterThan(1.8)
    expect(forecast.bulkDelay(now)).toBeLessThan(2.3)
    expect(forecast.bulkDelay(now + 20_000)).toBeCloseTo(1, 2)
    for (let i = 0; i < 400; i += 1) forecast.observe(batch, (now += 50))
    expect(forecast.bulkDelay(now)).toBeLessThanOrEqual(20)
  })
})
