import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FairTurns } from '../../src/async/fair-turns.js'

/** The client of the next turn, of those that always have work; of equals the first. */
function next(turns: FairTurns, clients: readonly string[]): string {
  const client = clients.reduce((a, b) => (turns.beginOf(b) < turns.beginOf(a) ? b : a))
  turns.begin(client)
  return client
}

describe('fair turns', () => {
  it('give clients that always have work the same share, whatever a turn of each costs', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 2, maxLength: 5 }),
        (costs) => {
          const turns = new FairTurns()
          const clients = costs.map((_, at) => String(at))
          const shares = costs.map(() => 0)
          for (let turn = 0; turn < 300; turn += 1) {
            const at = Number(next(turns, clients))
            turns.charge(String(at), costs[at] as number)
            shares[at] = (shares[at] as number) + (costs[at] as number)
          }
          expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(Math.max(...costs))
        },
      ),
    )
  })

  it('put a client that comes ahead of those that have work, and give it nothing for its absence', () => {
    const turns = new FairTurns()
    for (let turn = 0; turn < 100; turn += 1) turns.charge(next(turns, ['a', 'b']), 10)
    expect(next(turns, ['a', 'b', 'new'])).toBe('new')
    turns.charge('new', 10)
    const later = Array.from({ length: 30 }, () => {
      const client = next(turns, ['a', 'b', 'new'])
      turns.charge(client, 10)
      return client
    })
    expect(later.filter((client) => client === 'new')).toHaveLength(10)
  })
})
