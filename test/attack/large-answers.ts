/** Fault 16: payloads that make reads costly, and answers that nobody reads. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Attack, Target } from './attack.js'
import { ask, head } from './http.js'

/** A red dot. */
const IMAGE =
  'iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4//8/w38GIAXDIBKE0DHxgljNBAAO9TXL0Y4OHwAAAABJRU5ErkJggg=='
const ITEMS = 100

async function store({ port, key, isOver }: Target): Promise<void> {
  for (let at = 0; at < ITEMS && !isOver(); at += 1) {
    const payload = { text: 'x'.repeat(40_000), numbers: Array.from({ length: 4000 }, (_, n) => n) }
    const body = JSON.stringify({ image: IMAGE, payload })
    const question = { method: 'PUT', path: `/items/large-${at}`, type: 'application/json', body }
    await ask(port, { ...question, key: key(0), from: '127.0.0.2' })
  }
}

export const largeAnswers: readonly Attack[] = [
  {
    fault: 16,
    name: 'lists of large payloads that are not read',
    async run(target) {
      const { raw, key, isOver } = target
      await store(target)
      for (let at = 0; !isOver(); at += 1) {
        if (raw.open < 300) raw.connect(head('GET /items?limit=1000', key(at)).repeat(20))
        await sleep(20)
      }
    },
  },
  {
    fault: 16,
    name: 'filters of a hundred conditions over large payloads',
    async run(target) {
      const { port, key, isOver } = target
      await store(target)
      const client = async (at: number): Promise<void> => {
        for (let round = 0; !isOver(); round += 1) {
          const should = Array.from({ length: 100 }, (_, n) => ({
            key: 'numbers',
            match: -1 - n - round,
          }))
          const body = JSON.stringify({ text: 'a dog', k: 1000, filter: { should } })
          const question = { method: 'POST', path: '/search', type: 'application/json', body }
          await ask(port, { ...question, key: key(at), from: '127.0.0.2' }, 60_000)
        }
      }
      await Promise.all([0, 1, 2, 3].map(client))
    },
  },
]
