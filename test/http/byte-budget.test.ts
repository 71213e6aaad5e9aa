import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { ByteBudget } from '../../src/http/byte-budget.js'

describe('a budget of bytes', () => {
  it('evicts the largest holding of the client with the most, and the latest of equal ones', () => {
    const budget = new ByteBudget(100)
    const evicted: string[] = []
    const hold = (client: string, name: string, bytes: number): void => {
      const holding = budget.add(client, () => evicted.push(name))
      budget.resize(holding, bytes)
    }
    hold('a', 'a1', 30)
    hold('a', 'a2', 30)
    hold('b', 'b1', 35)
    expect(evicted).toEqual([])
    hold('c', 'c1', 10)
    expect(evicted).toEqual(['a2'])
    hold('b', 'b2', 30)
    expect(evicted).toEqual(['a2', 'b1'])
  })

  it('does not evict work that has begun', () => {
    const budget = new ByteBudget(100)
    const [first, second] = [vi.fn(), vi.fn()]
    const begun = budget.add('a', first)
    budget.resize(begun, 90)
    budget.keep(begun)
    const later = budget.add('b', second)
    budget.resize(later, 20)
    expect(first).not.toHaveBeenCalled()
    expect(second).toHaveBeenCalledOnce()
    expect(budget.held).toBe(90)
    budget.resize(later, 50)
    expect(budget.held).toBe(90)
  })

  it('holds at most its limit, and nothing when all is released', () => {
    const step = fc.record({ client: fc.constantFrom('a', 'b', 'c'), bytes: fc.nat(60) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const budget = new ByteBudget(100)
        const holdings = steps.map(({ client, bytes }) => {
          const holding = budget.add(client, () => undefined)
          budget.resize(holding, bytes)
          expect(budget.held).toBeLessThanOrEqual(100)
          return holding
        })
        for (const holding of holdings) budget.release(holding)
        expect(budget.held).toBe(0)
      }),
    )
  })
})
