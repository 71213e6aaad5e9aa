/**
 * Each worker is killed under load (`npm run worker-death` is the long run). Runs the built server.
 */
import { join } from 'node:path'
import { expect, it, vi } from 'vitest'
import { packageFolder } from '../../src/config.js'
import { LONGEST_MS, runDeaths } from '../worker-death/deaths.js'
import { workers } from '../worker-death/service.js'

vi.setConfig({ testTimeout: 300_000 })

it('a killed worker causes refusals for a few seconds, no wrong answer and no lost write', async () => {
  const model = join(packageFolder, 'test/fixtures/tiny-bundle')
  const { deaths, counts } = await runDeaths({ kills: workers.length, seed: 3, model })
  expect(counts.wrong).toEqual([])
  expect(deaths.map(({ worker }) => worker)).toEqual([...workers])
  for (const { worker, milliseconds, replaced } of deaths) {
    expect(replaced, worker).toBe(true)
    expect(milliseconds, worker).toBeLessThan(LONGEST_MS)
  }
  expect(counts.acknowledged).toBeGreaterThan(100)
})
