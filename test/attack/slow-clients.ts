/** Faults 8 and 9: connections that are idle, and requests that arrive slowly. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Attack, Target } from './attack.js'
import { head } from './http.js'

const IDLE = 1100
const SLOW = 200
const BYTES_A_SECOND = 600

/** Keeps `SLOW` connections open, each of which sends its start and then slowly more. */
async function drip(
  { raw, key, isOver }: Target,
  start: (key: string) => string,
  more: string,
): Promise<void> {
  const perTurn = Math.ceil(BYTES_A_SECOND / 5)
  const piece = more.repeat(Math.ceil(perTurn / more.length))
  for (let at = 0; !isOver(); at += 1) {
    for (let missing = SLOW - raw.open; missing > 0; missing -= 1) {
      const socket = raw.connect(start(key(missing + at)), { reads: true })
      const timer = setInterval(() => socket.writable && socket.write(piece), 200)
      socket.once('end', () => socket.destroy()).once('close', () => clearInterval(timer))
    }
    await sleep(200)
  }
}

const long = (type: string): string[] => [`Content-Type: ${type}`, 'Content-Length: 20000000']
const form = 'multipart/form-data; boundary=x'
const part = '--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'

export const slowClients: readonly Attack[] = [
  {
    fault: 8,
    name: 'as many idle connections as there can be',
    adds: true,
    async run({ raw, isOver }) {
      while (!isOver()) {
        for (let at = 0; at < 100 && raw.open < IDLE; at += 1)
          raw.connect(head('GET /health/live', 'none'), { reads: true })
        await sleep(100)
      }
    },
  },
  {
    fault: 9,
    name: 'slow JSON bodies of many keys',
    adds: true,
    run: (target) =>
      drip(target, (key) => `${head('POST /search', key, long('application/json'))}{"text":"`, 'x'),
  },
  {
    fault: 9,
    name: 'slow forms of many keys',
    adds: true,
    run: (target) => drip(target, (key) => head('POST /search', key, long(form)) + part, 'x'),
  },
  {
    fault: 9,
    name: 'slow images of many keys',
    adds: true,
    run: (target) => drip(target, (key) => head('PUT /items/slow', key, long('image/jpeg')), 'x'),
  },
  {
    fault: 9,
    name: 'slow lines of many keys',
    adds: true,
    run: (target) =>
      drip(
        target,
        (key) =>
          `${head('POST /items', key, long('application/x-ndjson'))}{"id":"slow","image":"!"}\n{`,
        'x',
      ),
  },
  {
    fault: 9,
    name: 'slow headers',
    adds: true,
    run: (target) => drip(target, () => 'GET /search HTTP/1.1\r\n', 'x-a: b\r\n'),
  },
  {
    fault: 9,
    name: 'bodies of 20 MB that stop before their end',
    adds: true,
    async run({ raw, key, isOver }) {
      const body = Buffer.alloc(19_000_000, 'x')
      for (let at = 0; !isOver(); at += 1) {
        if (raw.open < 60) {
          const socket = raw.connect(head('PUT /items/large', key(at), long('image/jpeg')), {
            reads: true,
          })
          socket.write(body)
          socket.once('end', () => socket.destroy())
        }
        // About 100 MB a second.
        await sleep(200)
      }
    },
  },
]
