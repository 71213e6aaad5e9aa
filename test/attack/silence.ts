/** How long a single request keeps the event loop from all others, by the shape of its body. */
import { ask, closeAgents } from './http.js'
import { largeShapes } from './large-shapes.js'
import { ATTACKER_KEYS, type Service } from './service.js'

export interface Silence {
  name: string
  bytes: number
  status: number
  /** Median of the longest delays of the event loop of several requests. */
  milliseconds: number
}

/** The bound of a single request on a machine that does nothing else. */
export const MAX_SILENCE_MS = 20
const WAIT_MS = 60_000

/** @param rounds - requests of each shape; the machine disturbs some */
export async function measureSilences(service: Service, rounds: number): Promise<Silence[]> {
  const silences: Silence[] = []
  for (const { name, path, type, body } of largeShapes) {
    const question = { method: 'POST', path, type, body: Buffer.from(body()) }
    const delays: number[] = []
    let status = 0
    for (let round = 0; round < rounds; round += 1) {
      await service.longestDelay()
      const answer = await ask(service.port, { ...question, key: ATTACKER_KEYS[0] ?? '' }, WAIT_MS)
      status = answer.status
      delays.push(await service.longestDelay())
    }
    delays.sort((a, b) => a - b)
    const milliseconds = delays[Math.floor(rounds / 2)] ?? 0
    silences.push({ name, bytes: question.body.length, status, milliseconds })
  }
  closeAgents()
  return silences
}
