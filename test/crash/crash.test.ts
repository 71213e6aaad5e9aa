/** A short run of the crash test (`npm run crash` is the long one), and tests of its check. */
import { describe, expect, it } from 'vitest'
import { runCrashes } from './crashes.js'
import { failPoints } from './fail-points.js'
import { History } from './history.js'

const RANDOM_MOMENTS = 2

describe('kill -9', { timeout: 600_000 }, () => {
  it('at every fail point and at random moments loses no acknowledged write, leaves no partial item, and keeps searches exact', async () => {
    const seed = Date.now() % 1_000_000
    console.info(`seed of the crash test: ${seed}`)
    const kills = failPoints.length + 2 * RANDOM_MOMENTS
    const crashes = await runCrashes({ kills, seed })
    expect(crashes.contradictions, `seed ${seed}`).toEqual([])
    expect(crashes.kills).toBe(kills)
    expect(crashes.acknowledged).toBeGreaterThan(100)
    // The sources may have changed around a fail point that no process reached.
    expect(failPoints.filter((point) => !crashes.atPoints.has(point))).toEqual([])
  })

  it('loses writes that were acknowledged before they were durable, and the check notices', async () => {
    const { contradictions } = await runCrashes({ kills: 20, seed: 5, earlyAcknowledgement: true })
    expect(contradictions[0]).toMatch(/(item-\d+|the bundles) is (absent|version \d+); it may be/)
  })
})

describe('the history', () => {
  const contradictions = (history: History, versions: Record<string, number>): string[] =>
    history.settle(new Map(Object.entries(versions)))

  function acknowledge(history: History, id: string, version: number | null): void {
    history.end(history.begin(id, version))
  }

  it('expects the last acknowledged change', () => {
    const history = new History()
    acknowledge(history, 'a', 1)
    acknowledge(history, 'a', 2)
    acknowledge(history, 'b', 3)
    acknowledge(history, 'b', null)
    expect(contradictions(history, { a: 2 })).toEqual([])
    acknowledge(history, 'a', 4)
    expect(contradictions(history, { a: 2 })).toEqual(['a is version 2; it may be version 4'])
  })

  it('reports a lost item, a removed item that is present, and an item that was never sent', () => {
    const history = new History()
    acknowledge(history, 'lost', 1)
    acknowledge(history, 'removed', 2)
    acknowledge(history, 'removed', null)
    expect(contradictions(history, { removed: 2, unknown: 9 })).toEqual([
      'lost is absent; it may be version 1',
      'removed is version 2; it may be absent',
      'unknown is version 9; it may be absent',
    ])
  })

  it('accepts a change without acknowledgement as done or not done, but not an earlier change', () => {
    for (const [version, isPossible] of [
      [1, false],
      [2, true],
      [3, true],
    ] as const) {
      const history = new History()
      acknowledge(history, 'a', 1)
      acknowledge(history, 'a', 2)
      history.begin('a', 3)
      expect(contradictions(history, { a: version }).length === 0).toBe(isPossible)
    }
  })

  it('accepts either of two concurrent changes as the last one', () => {
    for (const version of [1, 2]) {
      const history = new History()
      const [first, second] = [history.begin('a', 1), history.begin('a', 2)]
      history.end(second)
      history.end(first)
      expect(contradictions(history, { a: version })).toEqual([])
    }
  })

  it('starts again from the versions of the last check', () => {
    const history = new History()
    history.begin('a', 1)
    expect(contradictions(history, { a: 1 })).toEqual([])
    expect(contradictions(history, {})).toEqual(['a is absent; it may be version 1'])
  })
})
