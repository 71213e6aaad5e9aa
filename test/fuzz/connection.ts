/** HTTP as bytes: messages need not be valid HTTP, and answers are parsed strictly. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export interface Reply {
  status: number
  /** Names in lower case. */
  headers: ReadonlyMap<string, string>
  body: Buffer
}

/** After this pause an incomplete message is ended, so that the service can answer it. */
const SILENCE_MS = 100

/** The answer is not valid HTTP. */
export class Unreadable extends Error {}

export class Connection {
  readonly #socket: Socket
  #received = Buffer.alloc(0)
  #closed = false
  #wake: () => void = () => undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake()
    })
    // A reset is an end too: the service may close without reading the whole message.
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#closed = true
      this.#wake()
    })
  }

  static async open(port: number): Promise<Connection> {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    return new Connection(socket)
  }

  get isOpen(): boolean {
    return !this.#closed
  }

  /**
   * Sends a whole message and waits for its reply.
   *
   * @returns null if the service closed without one, 'late' if none came within `deadlineMs`
   */
  async ask(message: Buffer, deadlineMs: number): Promise<Reply | 'late' | null> {
    const end = performance.now() + deadlineMs
    this.#socket.write(message)
    for (;;) {
      const reply = this.#take(isHead(message))
      if (reply !== null) return reply
      if (this.#closed) return null
      if (!(await this.#more(end - performance.now()))) return 'late'
    }
  }

  /** Sends a message that may be incomplete, and reads all replies; 'late' if none ends them. */
  async tell(message: Buffer, deadlineMs: number): Promise<Reply[] | 'late'> {
    const end = performance.now() + deadlineMs
    const replies: Reply[] = []
    this.#socket.write(message)
    let ended = false
    while (!this.#closed) {
      if (await this.#more(Math.min(SILENCE_MS, end - performance.now()))) continue
      if (performance.now() >= end) return 'late'
      if (!ended) this.#socket.end()
      ended = true
    }
    for (
      let reply = this.#take(isHead(message));
      reply !== null;
      reply = this.#take(isHead(message))
    )
      replies.push(reply)
    return replies
  }

  close(): void {
    this.#socket.destroy()
  }

  /** Whether an event occurred within the time. */
  #more(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), Math.max(0, ms))
      this.#wake = () => {
        clearTimeout(timer)
        resolve(true)
      }
    })
  }

  /** The first reply in the received bytes; null if it is incomplete. */
  #take(toHead: boolean): Reply | null {
    const found = readReply(this.#received, toHead, this.#closed)
    if (found === null) return null
    this.#received = this.#received.subarray(found.length)
    return found.reply.status < 200 ? this.#take(toHead) : found.reply
  }
}

function isHead(message: Buffer): boolean {
  return message.toString('latin1', 0, 5) === 'HEAD '
}

function readReply(
  bytes: Buffer,
  toHead: boolean,
  closed: boolean,
): { reply: Reply; length: number } | null {
  const end = bytes.indexOf('\r\n\r\n')
  if (end === -1) {
    if (closed && bytes.length > 0)
      throw new Unreadable(`a reply that breaks off: ${bytes.toString('latin1', 0, 200)}`)
    return null
  }
  const [line = '', ...lines] = bytes.toString('latin1', 0, end).split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(line)?.[1])
  if (Number.isNaN(status))
    throw new Unreadable(`a reply that begins with ${JSON.stringify(line.slice(0, 200))}`)
  const headers = new Map(
    lines.map((one) => [
      one.slice(0, one.indexOf(':')).toLowerCase(),
      one.slice(one.indexOf(':') + 1).trim(),
    ]),
  )
  const from = end + 4
  const made = (body: Buffer, to: number) => ({ reply: { status, headers, body }, length: to })
  // An answer to malformed HTTP has a body, even if the message begins with HEAD.
  const noBody =
    toHead && (bytes.length === from || bytes.toString('latin1', from, from + 5) === 'HTTP/')
  if (noBody || status < 200 || status === 204 || status === 304) return made(Buffer.alloc(0), from)
  if (headers.get('transfer-encoding') === 'chunked') {
    const chunks = readChunks(bytes, from)
    return chunks === null ? null : made(chunks.body, chunks.to)
  }
  const length = Number(headers.get('content-length') ?? (closed ? bytes.length - from : Infinity))
  return bytes.length < from + length
    ? null
    : made(bytes.subarray(from, from + length), from + length)
}

function readChunks(bytes: Buffer, from: number): { body: Buffer; to: number } | null {
  const chunks: Buffer[] = []
  for (let at = from; ;) {
    const lineEnd = bytes.indexOf('\r\n', at)
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16)
    if (lineEnd === -1 || bytes.length < lineEnd + 2 + size + 2) return null
    if (Number.isNaN(size)) throw new Unreadable('a chunk without a size')
    chunks.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size))
    at = lineEnd + 2 + size + 2
    if (size === 0) return { body: Buffer.concat(chunks), to: at }
  }
}
