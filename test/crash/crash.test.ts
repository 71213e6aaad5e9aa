/**
 * A short run of the crash test (`npm run crash` is the long one), and that its judge would notice.
 */
import { describe, expect, it } from 'vitest'
import { runCrashes } from './crashes.js'
import { failPoints } from './fail-points.js'
import { History } from './history.js'

const RANDOM_MOMENTS = 2

describe('kill -9', { timeout: 600_000 }, () => {
  it('at every fail point and at random moments loses nothing acknowledged, halves nothing, and leaves searches exact', async () => {
    const seed = Date.now() % 1_000_000
    console.info(`seed of the crash test: ${seed}`)
    const kills = failPoints.length + 2 * RANDOM_MOMENTS
    const crashes = await runCrashes({ kills, seed })
    expect(crashes.contradictions, `seed ${seed}`).toEqual([])
    expect(crashes.kills).toBe(kills)
    expect(crashes.acknowledged).toBeGreaterThan(100)
    // A point that is not reached any more has moved in the sources.
    expect(failPoints.filter((point) => !crashes.atPoints.has(point))).toEqual([])
  })

  it('is noticed where writes are acknowledged before they are durable', async () => {
    const { contradictions } = await runCrashes({ kills: 20, seed: 5, hasty: true })
    expect(contradictions[0]).toMatch(/(item-\d+|the bundles) is (absent|version \d+); it may be/)
  })
})

describe('the history', () => {
  const settled = (history: History, found: Record<string, number>): string[] =>
    history.settle(new Map(Object.entries(found)))

  function acknowledged(history: History, id: string, version: number | null): void {
    history.end(history.begin(id, version))
  }

  it('expects the last acknowledged change', () => {
    const history = new History()
    acknowledged(history, 'a', 1)
    acknowledged(history, 'a', 2)
    acknowledged(history, 'b', 3)
    acknowledged(history, 'b', null)
    expect(settled(history, { a: 2 })).toEqual([])
    acknowledged(history, 'a', 4)
    expect(settled(history, { a: 2 })).toEqual(['a is version 2; it may be version 4'])
  })

  it('names what is lost, what is back, and what nobody sent', () => {
    const history = new History()
    acknowledged(history, 'lost', 1)
    acknowledged(history, 'back', 2)
    acknowledged(history, 'back', null)
    expect(settled(history, { back: 2, stranger: 9 })).toEqual([
      'lost is absent; it may be version 1',
      'back is version 2; it may be absent',
      'stranger is version 9; it may be absent',
    ])
  })

  it('leaves open what was not acknowledged, but not what it followed', () => {
    for (const [found, isPossible] of [
      [1, false],
      [2, true],
      [3, true],
    ] as const) {
      const history = new History()
      acknowledged(history, 'a', 1)
      acknowledged(history, 'a', 2)
      history.begin('a', 3)
      expect(settled(history, { a: found }).length === 0).toBe(isPossible)
    }
  })

  it('takes either of two changes at the same time', () => {
    for (const found of [1, 2]) {
      const history = new History()
      const [one, two] = [history.begin('a', 1), history.begin('a', 2)]
      history.end(two)
      history.end(one)
      expect(settled(history, { a: found })).toEqual([])
    }
  })

  it('goes on from what was found', () => {
    const history = new History()
    history.begin('a', 1)
    expect(settled(history, { a: 1 })).toEqual([])
    expect(settled(history, {})).toEqual(['a is absent; it may be version 1'])
  })
})
