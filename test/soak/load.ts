/** Sends requests, closed loop or open, and keeps of each what became of it. */
import { Agent, request } from 'node:http'
import type { Asked, Requests } from './requests.js'

/** Answered in time · too late · refused at once · failed in another way. */
export type Fate = 'answered' | 'late' | 'refused' | 'failed'

export interface Outcome {
  kind: Asked['kind']
  fate: Fate
  status: number
  /** From the moment the request is handed to the socket to the end of its answer, as the client sees it. */
  milliseconds: number
}

/** Beyond so many at a time a request is not sent: the service would have run out of permits long before. */
const MOST_AT_A_TIME = 256

export class Load {
  readonly #address: URL
  readonly #agent = new Agent({ keepAlive: true, maxSockets: MOST_AT_A_TIME })
  readonly #requests: Requests

  constructor(address: string, requests: Requests) {
    this.#address = new URL(address)
    this.#requests = requests
  }

  /** So many clients for so many seconds, each asking again as soon as it has its answer. */
  async closed(clients: number, seconds: number, note: (outcome: Outcome) => void): Promise<void> {
    const until = performance.now() + seconds * 1000
    await this.#together(clients, async () => {
      while (performance.now() < until) note(await this.send(this.#requests.next()))
    })
  }

  /** So many clients until all of `asked` is answered; what is refused is not asked again. */
  async all(clients: number, asked: Iterable<Asked>): Promise<void> {
    const queue = asked[Symbol.iterator]()
    await this.#together(clients, async () => {
      for (let next = queue.next(); next.done !== true; next = queue.next()) await this.send(next.value)
    })
  }

  async #together(clients: number, client: () => Promise<void>): Promise<void> {
    await Promise.all(Array.from({ length: clients }, client))
  }

  /**
   * So many requests a second, at random moments, whether or not those before have been answered.
   * @returns how many could not be sent because too many were under way
   */
  async open(perSecond: number, seconds: number, note: (outcome: Outcome) => void): Promise<number> {
    const begun = performance.now()
    const until = begun + seconds * 1000
    const sent = new Set<Promise<void>>()
    let unsent = 0
    for (let at = begun; at < until; at += (-Math.log(1 - Math.random()) * 1000) / perSecond) {
      const pause = at - performance.now()
      if (pause > 1) await new Promise((resolve) => setTimeout(resolve, pause))
      if (sent.size >= MOST_AT_A_TIME) {
        unsent += 1
        continue
      }
      const one: Promise<void> = this.send(this.#requests.next()).then((outcome) => {
        sent.delete(one)
        note(outcome)
      })
      sent.add(one)
    }
    await Promise.all(sent)
    return unsent
  }

  /** Resolves when the answer has been read, or the connection failed. */
  send(asked: Asked): Promise<Outcome> {
    const { kind, method, path, headers, body } = asked
    const { hostname: host, port } = this.#address
    return new Promise((resolve) => {
      const begun = performance.now()
      const end = (status: number, code: string): void => {
        const milliseconds = performance.now() - begun
        resolve({ kind, status, milliseconds, fate: fateOf(status, code, milliseconds / 1000, asked.deadlineS) })
      }
      const length = body === undefined ? {} : { 'content-length': String(body.length) }
      const sending = request({ agent: this.#agent, host, port, method, path, headers: { ...headers, ...length } }, (reply) => {
        const { statusCode = 0 } = reply
        const chunks: Buffer[] = []
        // Only what a refusal says is looked at.
        reply.on('data', (chunk: Buffer) => statusCode >= 400 && chunks.push(chunk))
        reply.on('end', () => end(statusCode, /"code":"(\w+)"/.exec(Buffer.concat(chunks).toString())?.[1] ?? ''))
        reply.on('error', () => end(0, ''))
      })
      sending.on('error', () => end(0, ''))
      sending.end(body)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}

function fateOf(status: number, code: string, seconds: number, deadlineS: number): Fate {
  if (code === 'overloaded' || code === 'rate_limited') return 'refused'
  if (code === 'timed_out') return 'late'
  if (status < 200 || status > 299) return 'failed'
  return seconds <= deadlineS ? 'answered' : 'late'
}
