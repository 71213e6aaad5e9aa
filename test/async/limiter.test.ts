import { describe, expect, it } from 'vitest'
import { Limiter } from '../../src/async/limiter.js'

/** Tasks that end when the test says so, and the names of those that have begun. */
class ManualTasks {
  readonly begun: string[] = []
  readonly #ends = new Map<string, (error?: Error) => void>()

  task = (name: string) => (): Promise<string> => {
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

describe('Limiter', () => {
  it('runs a limited number of tasks at a time and starts the others in their order', async () => {
    const tasks = new ManualTasks()
    const limiter = new Limiter(2)
    const all = ['a', 'b', 'c', 'd'].map((name) => limiter.run(tasks.task(name)))
    expect(tasks.begun).toEqual(['a', 'b'])
    expect([limiter.running, limiter.waiting]).toEqual([2, 2])
    await tasks.end('b')
    expect(tasks.begun).toEqual(['a', 'b', 'c'])
    for (const name of ['a', 'c', 'd']) await tasks.end(name)
    expect(await Promise.all(all)).toEqual(['a', 'b', 'c', 'd'])
    expect([limiter.running, limiter.waiting]).toEqual([0, 0])
  })

  it('starts interactive tasks before bulk tasks', async () => {
    const tasks = new ManualTasks()
    const limiter = new Limiter(1)
    const bulk = { priority: 'bulk' } as const
    const all = [
      limiter.run(tasks.task('a')),
      limiter.run(tasks.task('b'), bulk),
      limiter.run(tasks.task('c')),
    ]
    expect([limiter.ahead(), limiter.ahead(bulk)]).toEqual([2, 3])
    for (const name of ['a', 'c', 'b']) await tasks.end(name)
    expect(tasks.begun).toEqual(['a', 'c', 'b'])
    await Promise.all(all)
  })

  it('never starts a task whose signal aborted while it waited, and goes on after a failure', async () => {
    const tasks = new ManualTasks()
    const limiter = new Limiter(1)
    const controller = new AbortController()
    const failing = limiter.run(tasks.task('a'))
    const dropped = limiter.run(tasks.task('b'), { signal: controller.signal })
    const last = limiter.run(tasks.task('c'))
    controller.abort(new Error('gone'))
    await expect(dropped).rejects.toThrow('gone')
    const failed = expect(failing).rejects.toThrow('broken')
    await tasks.end('a', new Error('broken'))
    await failed
    await tasks.end('c')
    expect(await last).toBe('c')
    expect(tasks.begun).toEqual(['a', 'c'])
    await expect(limiter.run(tasks.task('d'), { signal: controller.signal })).rejects.toThrow(
      'gone',
    )
    expect([limiter.running, limiter.waiting]).toEqual([0, 0])
  })

  it('refuses a task beyond its queue with the error of its owner', async () => {
    const tasks = new ManualTasks()
    const full = (waiting: number): Error => new Error(`${waiting} wait`)
    const limiter = new Limiter(1, { maxWaiting: 1, full })
    const all = [limiter.run(tasks.task('a')), limiter.run(tasks.task('b'))]
    await expect(limiter.run(tasks.task('c'))).rejects.toThrow('1 wait')
    await tasks.end('a')
    await tasks.end('b')
    await Promise.all(all)
  })

  it('gives clients turns, and none more than its share', async () => {
    const tasks = new ManualTasks()
    const limiter = new Limiter(3, { perClient: 2 })
    const run = (name: string): Promise<string> =>
      limiter.run(tasks.task(name), { client: name.slice(0, 1) })
    const all = ['a1', 'a2', 'a3', 'a4', 'a5'].map(run)
    expect(tasks.begun).toEqual(['a1', 'a2'])
    expect([limiter.isFree({ client: 'a' }), limiter.isFree({ client: 'b' })]).toEqual([
      false,
      true,
    ])
    expect([limiter.ahead({ client: 'a' }), limiter.ahead({ client: 'b' })]).toEqual([5, 1])
    all.push(...['b1', 'b2', 'c1'].map(run))
    expect(tasks.begun.slice(2)).toEqual(['b1'])
    for (const name of ['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4', 'a5']) await tasks.end(name)
    // c has none running, then b; a comes between when it has the fewest.
    expect(tasks.begun.slice(3)).toEqual(['c1', 'a3', 'b2', 'a4', 'a5'])
    await Promise.all(all)
    expect([limiter.running, limiter.waiting]).toEqual([0, 0])
  })

  it('leaves a quarter of the queue to other clients', async () => {
    const tasks = new ManualTasks()
    const limiter = new Limiter(1, { maxWaiting: 4 })
    const all = ['a1', 'a2', 'a3', 'a4'].map((name) =>
      limiter.run(tasks.task(name), { client: 'a' }),
    )
    await expect(limiter.run(tasks.task('a5'), { client: 'a' })).rejects.toThrow('3 tasks')
    all.push(limiter.run(tasks.task('b1'), { client: 'b' }))
    for (const name of ['a1', 'b1', 'a2', 'a3', 'a4']) await tasks.end(name)
    await Promise.all(all)
  })
})
