import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/**
 * `pass`: no fault. `slow`: replies are delayed by `delayMs`. `drop`: connections are cut
 * repeatedly, also during a call. `refuse`: no connection is accepted.
 */
export type Fault = 'pass' | 'slow' | 'drop' | 'refuse'

/** The longest life of a connection during `drop`. */
const DROP_AFTER_MS = 60

/** A TCP proxy that simulates failures of the network between a client and an engine. */
export class FaultyProxy {
  readonly port: number
  readonly #target: number
  readonly #sockets = new Set<Socket>()
  #server: Server
  #fault: Fault = 'pass'
  delayMs = 2000

  private constructor(server: Server, target: number) {
    this.#server = server
    this.#target = target
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (socket) => this.#join(socket))
  }

  /** @param target - the engine's port on the loopback address */
  static async start(target: number): Promise<FaultyProxy> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new FaultyProxy(server, target)
  }

  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  async set(fault: Fault): Promise<void> {
    const was = this.#fault
    this.#fault = fault
    if (fault === 'refuse') await this.#close()
    else if (was === 'refuse') {
      this.#server = createServer((socket) => this.#join(socket)).listen(this.port, '127.0.0.1')
      await once(this.#server, 'listening')
    }
    if (fault === 'drop') for (const socket of this.#sockets) this.#dropSoon(socket)
  }

  async end(): Promise<void> {
    if (this.#fault !== 'refuse') await this.#close()
  }

  async #close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #join(client: Socket): void {
    const engine = connect(this.#target, '127.0.0.1')
    for (const [socket, other] of [
      [client, engine],
      [engine, client],
    ] as const) {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
    }
    client.on('data', (bytes) => engine.write(bytes))
    engine.on('data', (bytes) => {
      if (this.#fault !== 'slow') client.write(bytes)
      else setTimeout(() => client.writable && client.write(bytes), this.delayMs)
    })
    if (this.#fault === 'drop') this.#dropSoon(client)
  }

  #dropSoon(socket: Socket): void {
    setTimeout(() => this.#fault === 'drop' && socket.destroy(), Math.random() * DROP_AFTER_MS)
  }
}
