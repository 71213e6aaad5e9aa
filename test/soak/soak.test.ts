import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { packageFolder } from '../../src/config.js'
import { runSoak } from './soak.js'

describe('the soak', () => {
  it('offers twice the sustainable rate, and requests are only answered, refused or late', async () => {
    const model = join(packageFolder, 'test/fixtures/tiny-bundle')
    const soak = await runSoak({
      minutes: 0.1,
      rampS: 0.4,
      replacements: 20,
      model,
      seed: 1,
      tell: () => undefined,
    })
    expect(soak.offered).toBeCloseTo(2 * soak.sustainable)
    expect(soak.outcomes.length + soak.unsent).toBeGreaterThan(
      0.5 * soak.offered * soak.minutes * 60,
    )
    expect(soak.outcomes.filter(({ fate }) => fate === 'failed')).toEqual([])
    for (const kind of ['search', 'add', 'embed'])
      expect(soak.outcomes.some((outcome) => outcome.kind === kind)).toBe(true)
    expect(soak.loopDelay.count).toBeGreaterThan(100)
    const refused = soak.outcomes.filter(({ fate }) => fate === 'refused').length
    expect(soak.refusals.count).toBe(refused)
    expect([...soak.memory.keys()].sort()).toEqual([
      'decoder-worker',
      'hnsw-worker',
      'inference-worker',
      'server',
      'together',
    ])
    for (const { resident, anonymous } of soak.memory.values()) {
      expect(anonymous.min).toBeGreaterThan(5 * 1024 * 1024)
      expect(resident.min).toBeGreaterThan(anonymous.min)
      expect(anonymous.perHour).not.toBeNaN()
    }
  }, 120_000)
})
