import { describe, expect, it } from 'vitest'
import { Turns } from '../../../src/model/queue/limiter.js'

/** Work that ends when the test says so, and remembers who began. */
class Held {
  readonly begun: string[] = []
  readonly #ends = new Map<string, (error?: Error) => void>()

  work = (name: string) => (): Promise<string> => {
    this.begun.push(name)
    return new Promise((resolve, reject) => {
      this.#ends.set(name, (error) => (error === undefined ? resolve(name) : reject(error)))
    })
  }

  async end(name: string, error?: Error): Promise<void> {
    this.#ends.get(name)?.(error)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

describe('turns', () => {
  it('runs so many at a time, the others in their order, and counts them', async () => {
    const held = new Held()
    const turns = new Turns(2, 10, 'pieces wait')
    const all = ['a', 'b', 'c', 'd'].map((name) => turns.run(held.work(name)))
    expect(held.begun).toEqual(['a', 'b'])
    expect(turns.size).toBe(4)
    await held.end('b')
    expect(held.begun).toEqual(['a', 'b', 'c'])
    for (const name of ['a', 'c', 'd']) await held.end(name)
    expect(await Promise.all(all)).toEqual(['a', 'b', 'c', 'd'])
    expect(turns.size).toBe(0)
  })

  it('takes interactive work first', async () => {
    const held = new Held()
    const turns = new Turns(1, 10, 'pieces wait')
    const bulk = { priority: 'bulk' } as const
    const all = [
      turns.run(held.work('a')),
      turns.run(held.work('b'), bulk),
      turns.run(held.work('c')),
    ]
    expect([turns.before('interactive'), turns.before('bulk')]).toEqual([2, 3])
    for (const name of ['a', 'c', 'b']) await held.end(name)
    expect(held.begun).toEqual(['a', 'c', 'b'])
    await Promise.all(all)
  })

  it('never begins what was given up while it waited, and goes on after a failure', async () => {
    const held = new Held()
    const turns = new Turns(1, 10, 'pieces wait')
    const controller = new AbortController()
    const failing = turns.run(held.work('a'))
    const dropped = turns.run(held.work('b'), { signal: controller.signal })
    const kept = turns.run(held.work('c'))
    controller.abort(new Error('gone'))
    await expect(dropped).rejects.toThrow('gone')
    const failed = expect(failing).rejects.toThrow('broken')
    await held.end('a', new Error('broken'))
    await failed
    await held.end('c')
    expect(await kept).toBe('c')
    expect(held.begun).toEqual(['a', 'c'])
    await expect(turns.run(held.work('d'), { signal: controller.signal })).rejects.toThrow('gone')
    expect(turns.size).toBe(0)
  })

  it('refuses what is beyond the queue', async () => {
    const held = new Held()
    const turns = new Turns(1, 1, 'pieces wait')
    const all = [turns.run(held.work('a')), turns.run(held.work('b'))]
    await expect(turns.run(held.work('c'))).rejects.toMatchObject({
      code: 'overloaded',
      retryAfterS: 1,
    })
    await held.end('a')
    await held.end('b')
    await Promise.all(all)
  })

  it('expects of pieces what the last ones took', async () => {
    const turns = new Turns(2, 1, 'pieces wait')
    expect(turns.milliseconds(10)).toBe(0)
    await turns.run(() => new Promise((resolve) => setTimeout(resolve, 40)))
    expect(turns.milliseconds(10)).toBeGreaterThan(150)
    expect(turns.milliseconds(10)).toBeLessThan(2000)
  })
})
