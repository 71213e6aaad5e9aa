/** Sends requests in a closed or open loop and reports each answer. */
import { Agent, request } from 'node:http'

/** One request. */
export interface Asked {
  method: string
  path: string
  headers: Record<string, string>
  body?: Buffer
}

export interface Answer {
  /** 0 if the connection failed. */
  status: number
  /** The body of an answer of status 400 or above, else empty. */
  said: string
  /**
   * From the moment that the request was due to the end of the answer. So in an open loop the wait
   * for a busy generator or machine counts too.
   */
  milliseconds: number
}

/**
 * Requests in flight beyond which none is sent: a service runs out of permits long before.
 */
const MOST_AT_A_TIME = 256

export class Load<Request extends Asked> {
  readonly #address: URL
  // Round robin, so that all processes which share an address get requests.
  readonly #agent = new Agent({ keepAlive: true, maxSockets: MOST_AT_A_TIME, scheduling: 'fifo' })
  readonly #next: () => Request

  constructor(address: string, next: () => Request) {
    this.#address = new URL(address)
    this.#next = next
  }

  /** Closed loop: each client sends its next request when it has the answer. */
  async closed(
    clients: number,
    seconds: number,
    note: (asked: Request, answer: Answer) => void,
  ): Promise<void> {
    const until = performance.now() + seconds * 1000
    await this.#together(clients, async () => {
      while (performance.now() < until) {
        const asked = this.#next()
        note(asked, await this.send(asked))
      }
    })
  }

  /** Closed loop until all of `asked` is answered; refused requests are not repeated. */
  async all(clients: number, asked: Iterable<Request>): Promise<void> {
    const queue = asked[Symbol.iterator]()
    await this.#together(clients, async () => {
      for (let next = queue.next(); next.done !== true; next = queue.next())
        await this.send(next.value)
    })
  }

  async #together(clients: number, client: () => Promise<void>): Promise<void> {
    await Promise.all(Array.from({ length: clients }, client))
  }

  /**
   * Open loop: requests at random moments at a rate, independent of the answers.
   * @returns how many were not sent because too many were in flight
   */
  async open(
    perSecond: number,
    seconds: number,
    note: (asked: Request, answer: Answer) => void,
  ): Promise<number> {
    const begun = performance.now()
    const until = begun + seconds * 1000
    const sent = new Set<Promise<void>>()
    let unsent = 0
    for (let at = begun; at < until; at += (-Math.log(1 - Math.random()) * 1000) / perSecond) {
      const pause = at - performance.now()
      if (pause > 1) await new Promise((resolve) => setTimeout(resolve, pause))
      if (sent.size >= MOST_AT_A_TIME) {
        unsent += 1
        // Yields, so that answers are read even if sending is late.
        await new Promise((resolve) => setImmediate(resolve))
        continue
      }
      const asked = this.#next()
      const one: Promise<void> = this.send(asked, Math.min(at, performance.now())).then(
        (answer) => {
          sent.delete(one)
          note(asked, answer)
        },
      )
      sent.add(one)
    }
    await Promise.all(sent)
    return unsent
  }

  /** Resolves when the answer is read or the connection failed. */
  send({ method, path, headers, body }: Request, due = performance.now()): Promise<Answer> {
    const { hostname: host, port } = this.#address
    return new Promise((resolve) => {
      const end = (status: number, said: string): void =>
        resolve({ status, said, milliseconds: performance.now() - due })
      const length = body === undefined ? {} : { 'content-length': String(body.length) }
      const sending = request(
        { agent: this.#agent, host, port, method, path, headers: { ...headers, ...length } },
        (reply) => {
          const { statusCode = 0 } = reply
          const chunks: Buffer[] = []
          reply.on('data', (chunk: Buffer) => statusCode >= 400 && chunks.push(chunk))
          reply.on('end', () => end(statusCode, Buffer.concat(chunks).toString()))
          reply.on('error', () => end(0, ''))
        },
      )
      sending.on('error', () => end(0, ''))
      sending.end(body)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}
