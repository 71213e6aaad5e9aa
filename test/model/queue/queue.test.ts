import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Queue, type QueueEntry } from '../../../src/model/queue/queue.js'

const waiter = fc.record({
  graph: fc.constantFrom('text' as const, 'fusion' as const, 'image' as const),
  priority: fc.constantFrom('interactive' as const, 'bulk' as const),
  weight: fc.integer({ min: 1, max: 9 }),
})

describe('what waits', () => {
  it('runs once each, in batches of one graph and priority, within the limit or alone', () => {
    fc.assert(
      fc.property(
        fc.array(waiter, { maxLength: 60 }),
        fc.integer({ min: 1, max: 12 }),
        (given, limit) => {
          const waiting = new Queue<QueueEntry>()
          for (const one of given) waiting.add(one)
          // Given up: every fifth.
          const gone = given.filter((_, at) => at % 5 === 4)
          for (const one of gone) waiting.delete(one)
          for (const one of gone) waiting.delete(one)
          const ran: QueueEntry[] = []
          for (
            let batch = waiting.take(() => limit);
            batch.length > 0;
            batch = waiting.take(() => limit)
          ) {
            expect(new Set(batch.map(({ graph, priority }) => `${graph} ${priority}`)).size).toBe(1)
            const weight = batch.reduce((sum, one) => sum + one.weight, 0)
            expect(batch.length === 1 || weight <= limit).toBe(true)
            ran.push(...batch)
          }
          expect(new Set(ran)).toEqual(new Set(given.filter((one) => !gone.includes(one))))
          expect(ran).toHaveLength(given.length - gone.length)
          expect(waiting.size).toBe(0)
          for (const priority of ['interactive', 'bulk'] as const)
            expect(waiting.weights(priority).every(([, weight]) => weight === 0)).toBe(true)
        },
      ),
    )
  })

  it('joins rows of similar length, with no more padding than another batch would cost', () => {
    const waiting = new Queue<QueueEntry & { rowLength: number }>()
    for (const rowLength of [10, 40, 11, 12, 38, 9])
      waiting.add({ graph: 'text', priority: 'interactive', weight: rowLength, rowLength })
    const take = (limit: number): number[] =>
      waiting
        .take(
          () => limit,
          () => 6,
        )
        .map(({ rowLength }) => rowLength)
    expect(take(200)).toEqual([10, 11, 9, 12])
    expect(take(70)).toEqual([40])
    expect(take(70)).toEqual([38])
  })
})
