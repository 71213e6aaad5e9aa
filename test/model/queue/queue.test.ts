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
            expect(waiting.weightOf({ priority, graph: 'text' })).toBe(0)
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

  it('runs next what waits for the client that has cost least lately', () => {
    const waiting = new Queue<QueueEntry>()
    const add = (client: string, weight: number): void =>
      waiting.add({ graph: 'text', priority: 'interactive', weight, client })
    const ran = (): string[] => waiting.take(() => 5).map(({ client = '' }) => client)
    for (let at = 0; at < 4; at += 1) add('large', 5)
    for (let at = 0; at < 4; at += 1) add('middle', 3)
    expect([ran(), ran(), ran()]).toEqual([['large'], ['middle'], ['middle']])
    // Costs: 5 and 6. Who comes now begins where the last turn began, at 3.
    add('small', 1)
    expect([ran(), ran(), ran()]).toEqual([['small'], ['large'], ['middle']])
  })

  it('fills a batch with what waits for the same client before it takes from others', () => {
    const waiting = new Queue<QueueEntry>()
    const add = (client: string): void =>
      waiting.add({ graph: 'text', priority: 'interactive', weight: 1, client })
    for (const client of ['a', 'b', 'a', 'b', 'a', 'b']) add(client)
    const ran = (): string[] => waiting.take(() => 4).map(({ client = '' }) => client)
    expect([ran(), ran()]).toEqual([
      ['a', 'a', 'a', 'b'],
      ['b', 'b'],
    ])
  })

  it('forgets what clients have cost once nothing waits', () => {
    const waiting = new Queue<QueueEntry>()
    const add = (client: string): void =>
      waiting.add({ graph: 'text', priority: 'interactive', weight: 5, client })
    const ran = (): string[] => waiting.take(() => 5).map(({ client = '' }) => client)
    add('a')
    expect(ran()).toEqual(['a'])
    for (const client of ['a', 'b']) add(client)
    expect([ran(), ran()]).toEqual([['a'], ['b']])
  })
})
