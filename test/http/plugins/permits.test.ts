import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Permits } from '../../../src/http/plugins/permits.js'

const taken = (
  permits: Permits,
  client: string,
  times: number,
  priority: 'interactive' | 'bulk' = 'bulk',
): number =>
  Array.from({ length: times }, () => permits.take(priority, client)).filter(
    (one) => typeof one === 'function',
  ).length

describe('permits', () => {
  it('of one priority are not taken by the other one', () => {
    const permits = new Permits({ interactive: 1, bulk: 1 })
    expect(permits.take('bulk', 'a')).toBeTypeOf('function')
    expect(permits.take('bulk', 'b')).toMatchObject({
      sentence: expect.stringMatching(/1 bulk requests are being answered/) as string,
    })
    expect(permits.take('interactive', 'a')).toBeTypeOf('function')
    expect(permits.take('interactive', 'a')).toMatchObject({
      sentence: expect.stringMatching(/1 requests are being answered/) as string,
    })
  })

  it.each(['interactive', 'bulk'] as const)(
    '(%s) go to a single client up to three quarters, and the rest to a second one',
    (priority) => {
      const permits = new Permits({ interactive: 16, bulk: 16 })
      expect(taken(permits, 'a', 100, priority)).toBe(12)
      expect(permits.take(priority, 'a')).toMatchObject({
        sentence: expect.stringMatching(/12 (bulk )?requests of this client/) as string,
      })
      expect(taken(permits, 'b', 100, priority)).toBe(4)
    },
  )

  it.each(['interactive', 'bulk'] as const)(
    '(%s) are shared equally once the first client gives some back',
    (priority) => {
      const permits = new Permits({ interactive: 16, bulk: 16 })
      const first = Array.from({ length: 12 }, () => permits.take(priority, 'a') as () => void)
      taken(permits, 'b', 100, priority)
      for (const back of first.splice(0, 6)) back()
      expect(taken(permits, 'b', 100, priority)).toBe(4)
      expect(taken(permits, 'a', 100, priority)).toBe(2)
    },
  )

  it('go to those that wait, in the order of their calls', async () => {
    const permits = new Permits({ interactive: 1, bulk: 2 })
    const first = permits.take('bulk', 'a') as () => void
    permits.take('bulk', 'b')
    const order: string[] = []
    const waiting = ['c', 'd'].map((name) =>
      permits.wait('bulk', name, undefined).then((back) => (order.push(name), back)),
    )
    first()
    const back = await (waiting[0] as Promise<() => void>)
    expect(order).toEqual(['c'])
    back()
    await waiting[1]
    expect(order).toEqual(['c', 'd'])
  })

  it('are not given to those that no longer wait', async () => {
    const permits = new Permits({ interactive: 1, bulk: 1 })
    const back = permits.take('bulk', 'a') as () => void
    const gone = new AbortController()
    const waiting = permits.wait('bulk', 'b', gone.signal)
    gone.abort(new Error('gone'))
    await expect(waiting).rejects.toThrow('gone')
    back()
    expect(permits.take('bulk', 'c')).toBeTypeOf('function')
  })

  it('are at most their number, and can all be given back', () => {
    const step = fc.record({ client: fc.constantFrom('a', 'b', 'c'), take: fc.boolean() })
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 200 }),
        fc.integer({ min: 1, max: 9 }),
        (steps, bulk) => {
          const permits = new Permits({ interactive: 1, bulk })
          const held: (() => void)[] = []
          for (const { client, take } of steps) {
            const one = take ? permits.take('bulk', client) : held.shift()?.()
            if (typeof one === 'function') held.push(one)
            expect(held.length).toBeLessThanOrEqual(bulk)
          }
          for (const back of held) back()
          expect(taken(permits, 'd', 20)).toBe(Math.max(1, Math.ceil(bulk * 0.75)))
        },
      ),
    )
  })
})
