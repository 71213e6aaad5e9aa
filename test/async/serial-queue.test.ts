import { setTimeout as pause } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { SerialQueue } from '../../src/async/serial-queue.js'

it('runs tasks one after the other, also after one that failed', async () => {
  const queue = new SerialQueue()
  const log: string[] = []
  const task = (name: string, ms: number) => async (): Promise<string> => {
    log.push(`${name} begins`)
    await pause(ms)
    log.push(`${name} ends`)
    if (name === 'b') throw new Error('failed')
    return name
  }
  const [a, b, c] = [queue.run(task('a', 20)), queue.run(task('b', 5)), queue.run(task('c', 0))]
  await expect(b).rejects.toThrow('failed')
  expect(await Promise.all([a, c])).toEqual(['a', 'c'])
  expect(log).toEqual(['a', 'b', 'c'].flatMap((name) => [`${name} begins`, `${name} ends`]))
})

it('is idle when all tasks so far have ended', async () => {
  const queue = new SerialQueue()
  let isDone = false
  void queue.run(async () => {
    await pause(10)
    isDone = true
  })
  await queue.idle()
  expect(isDone).toBe(true)
})
