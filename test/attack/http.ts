/** Requests of clients, good and hostile, with the addresses of loopback they come from. */
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'

/** Limits of connections are by address, so attackers have others than good clients. */
export const GOOD_ADDRESS = '127.0.0.1'
const ATTACKER_ADDRESSES = ['127.0.0.2', '127.0.0.3']

export interface Answer {
  /** 0 if the connection failed. */
  status: number
  body: string
  ms: number
}

export interface Question {
  method?: string
  path: string
  key: string
  type?: string
  body?: string | Buffer
  from?: string
}

const agents = new Map<string, Agent>()

/** Never rejects; an answer that takes longer than `timeoutMs` has the status 0. */
export function ask(port: number, question: Question, timeoutMs = 15_000): Promise<Answer> {
  const { method = 'GET', path, key, type, body, from = GOOD_ADDRESS } = question
  const begun = performance.now()
  const agent = agents.get(from) ?? new Agent({ keepAlive: true, localAddress: from })
  agents.set(from, agent)
  return new Promise((resolve) => {
    const end = (status: number, text: string): void =>
      resolve({ status, body: text, ms: performance.now() - begun })
    const headers: Record<string, string | number> = { 'x-api-key': key }
    if (type !== undefined) headers['content-type'] = type
    if (body !== undefined) headers['content-length'] = Buffer.byteLength(body)
    const sent = request({ host: '127.0.0.1', port, method, path, headers, agent }, (reply) => {
      const pieces: Buffer[] = []
      reply.on('data', (piece: Buffer) => pieces.push(piece))
      reply.on('end', () => end(reply.statusCode ?? 0, Buffer.concat(pieces).toString()))
      reply.on('error', (error) => end(0, error.message))
    })
    sent.setTimeout(timeoutMs, () => sent.destroy(new Error(`no answer in ${timeoutMs} ms`)))
    sent.on('error', (error) => end(0, error.message)).end(body)
  })
}

export function closeAgents(): void {
  for (const agent of agents.values()) agent.destroy()
  agents.clear()
}

/** Raw connections of attackers; all end with the attack. */
export class RawClients {
  readonly #port: number
  readonly #open = new Set<Socket>()
  #count = 0

  constructor(port: number) {
    this.#port = port
  }

  get open(): number {
    return this.#open.size
  }

  /** Connects from one of the attackers' addresses, and writes the text. */
  connect(text: string | Buffer, { reads = false } = {}): Socket {
    this.#count += 1
    const socket = connect({
      port: this.#port,
      host: '127.0.0.1',
      localAddress: ATTACKER_ADDRESSES[this.#count % ATTACKER_ADDRESSES.length] ?? '',
      allowHalfOpen: true,
    })
    this.#open.add(socket)
    socket.on('error', () => undefined).on('close', () => this.#open.delete(socket))
    if (reads) socket.resume()
    else socket.pause()
    socket.write(text)
    return socket
  }

  closeAll(): void {
    for (const socket of this.#open) socket.destroy()
  }
}

/** The head of a request, up to the empty line. */
export function head(start: string, key: string, more: readonly string[] = []): string {
  return `${[`${start} HTTP/1.1`, 'Host: 127.0.0.1', `X-API-Key: ${key}`, ...more].join('\r\n')}\r\n\r\n`
}
