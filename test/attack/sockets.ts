/** A fuzzer of raw sockets: pipelined, half-closed, slow and aborted requests among good ones. */
import { setTimeout as sleep } from 'node:timers/promises'
import { randomNumbers } from '../support/random-embeddings.js'
import type { Target } from './attack.js'
import { head } from './http.js'

const LONGEST_MS = 2000

/**
 * Sends `count` requests, whole and in pieces, on `sockets` connections at a time.
 *
 * @returns the statuses of the answers, by number
 */
export async function fuzzSockets(
  { raw, key, isOver }: Target,
  {
    count,
    seed,
    image,
    sockets = 30,
  }: { count: number; seed: number; image: Buffer; sockets?: number },
): Promise<Map<number, number>> {
  const next = randomNumbers(seed)
  const pick = <Value>(values: readonly Value[]): Value =>
    values[Math.floor(next() * values.length)] as Value
  const statuses = new Map<number, number>()
  let sent = 0

  const withBody = (start: string, type: string, body: string | Buffer): Buffer => {
    const lines = [`Content-Type: ${type}`, `Content-Length: ${Buffer.byteLength(body)}`]
    return Buffer.concat([
      Buffer.from(head(start, key(Math.floor(next() * 6)), lines)),
      Buffer.from(body),
    ])
  }
  const bodyless = (path: string): Buffer => Buffer.from(head(path, key(Math.floor(next() * 6))))
  const requests: readonly (() => Buffer)[] = [
    () => bodyless('GET /search?q=dog&k=2'),
    () => bodyless('GET /items?limit=50'),
    () => bodyless('GET /openapi.json'),
    () => bodyless('GET /docs/static/swagger-ui-bundle.js'),
    () => bodyless('GET /none'),
    () => bodyless(`DELETE /items/fuzz-${Math.floor(next() * 20)}`),
    () => withBody('POST /search', 'application/json', '{"text":"dog"}'),
    () => withBody('POST /embed', 'application/json', '{"inputs":[{"text":"a"},{"text":"b"}]}'),
    () => withBody('POST /none', 'application/json', '{"a":1}'),
    () => withBody('POST /items', 'application/x-ndjson', '{"id":"a","image":"!"}\n'.repeat(20)),
    () => withBody(`PUT /items/fuzz-${Math.floor(next() * 20)}`, 'image/jpeg', image),
    () => Buffer.from('POST /search HTTP/1.1\r\nContent-Length: x\r\n\r\n'),
  ]

  async function client(): Promise<void> {
    while (sent < count && !isOver()) {
      const many = pick([1, 1, 1, 1, 2, 2, 5, 30])
      const message = Buffer.concat(Array.from({ length: many }, () => pick(requests)()))
      sent += many
      const socket = raw.connect('', { reads: false })
      let said = ''
      if (next() < 0.8)
        socket.on('data', (bytes: Buffer) => (said += bytes.toString('latin1'))).resume()
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
      const cut = pick([1, 1, 1, 0.99, 0.5])
      const bytes = message.subarray(0, Math.ceil(message.length * cut))
      const pieces = pick([1, 1, 2, 7])
      for (let at = 0; at < pieces && !socket.destroyed; at += 1) {
        const [from, to] = [at, at + 1].map((n) => Math.floor((bytes.length * n) / pieces))
        socket.write(bytes.subarray(from, to))
        if (pieces > 1) await sleep(next() * 20)
      }
      const ending = pick(['half', 'abort', 'reset', 'wait'])
      if (ending === 'half') socket.end()
      else if (ending === 'abort') socket.destroy()
      else if (ending === 'reset') socket.resetAndDestroy()
      await Promise.race([closed, sleep(ending === 'wait' ? next() * 500 : LONGEST_MS)])
      socket.destroy()
      for (const [, status] of said.matchAll(/HTTP\/1\.1 (\d{3})/g))
        statuses.set(Number(status), (statuses.get(Number(status)) ?? 0) + 1)
    }
  }
  await Promise.all(Array.from({ length: sockets }, client))
  return statuses
}
