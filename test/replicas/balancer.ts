import { once } from 'node:events'
import {
  Agent,
  createServer,
  request as send,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'

const CHECK_INTERVAL_MS = 50

export interface Counts {
  /** Requests sent to another service because one refused the connection. */
  refused: number
  /** Requests sent to another service because the connection broke before a reply. */
  cut: number
}

interface Backend {
  readonly address: string
}

/**
 * A load balancer: sends requests round-robin to the services that are ready. A request without a
 * reply goes to the next service, because all requests of these tests are idempotent.
 */
export class Balancer {
  readonly counts: Counts = { refused: 0, cut: 0 }
  readonly #server: Server
  readonly #backends: readonly Backend[]
  readonly #ready = new Set<Backend>()
  readonly #agent = new Agent({ keepAlive: true })
  #timer: NodeJS.Timeout | undefined
  #next = 0

  private constructor(backends: readonly Backend[]) {
    this.#backends = backends
    this.#server = createServer((request, reply) => void this.#pass(request, reply))
  }

  static async start(backends: readonly Backend[]): Promise<Balancer> {
    const balancer = new Balancer(backends)
    await balancer.#check()
    balancer.#server.listen(0, '127.0.0.1')
    await once(balancer.#server, 'listening')
    return balancer
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async end(): Promise<void> {
    clearTimeout(this.#timer)
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
    this.#agent.destroy()
  }

  async #check(): Promise<void> {
    await Promise.all(
      this.#backends.map(async (backend) => {
        const isReady = await fetch(`${backend.address}/health/ready`).then(
          ({ status }) => status === 200,
          () => false,
        )
        if (isReady) this.#ready.add(backend)
        else this.#ready.delete(backend)
      }),
    )
    this.#timer = setTimeout(() => void this.#check(), CHECK_INTERVAL_MS)
  }

  async #pass(request: IncomingMessage, reply: ServerResponse): Promise<void> {
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const body = Buffer.concat(parts)
    const tried = new Set<Backend>()
    for (;;) {
      const backend = this.#choose(tried)
      if (backend === undefined) return void reply.writeHead(502).end('no service is ready')
      tried.add(backend)
      const outcome = await this.#forward(backend, request, body, reply)
      if (outcome === 'answered') return
      this.counts[outcome] += 1
    }
  }

  #choose(tried: ReadonlySet<Backend>): Backend | undefined {
    const open = this.#backends.filter((backend) => !tried.has(backend))
    const ready = open.filter((backend) => this.#ready.has(backend))
    this.#next += 1
    return ready[this.#next % ready.length] ?? open[0]
  }

  #forward(
    backend: Backend,
    { method, url = '/', headers }: IncomingMessage,
    body: Buffer,
    reply: ServerResponse,
  ): Promise<'answered' | keyof Counts> {
    const { hostname, port, host } = new URL(backend.address)
    return new Promise((resolve) => {
      const sent = send(
        { hostname, port, method, path: url, headers: { ...headers, host }, agent: this.#agent },
        (answer) => {
          // Headers of the connection are not forwarded.
          const forwarded = Object.entries(answer.headers).filter(
            ([name]) => !['connection', 'keep-alive'].includes(name),
          )
          reply.writeHead(answer.statusCode ?? 502, Object.fromEntries(forwarded))
          answer.pipe(reply)
          answer.on('end', () => resolve('answered'))
          answer.on('error', () => {
            reply.destroy()
            resolve('answered')
          })
        },
      )
      sent.on('error', (error: NodeJS.ErrnoException) => {
        if (!reply.headersSent) resolve(error.code === 'ECONNREFUSED' ? 'refused' : 'cut')
      })
      sent.end(body)
    })
  }
}
