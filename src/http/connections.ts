/**
 * Limits the connections of a server without letting a client shut others out: where all are in
 * use, a new connection replaces one of the client that has the most.
 */
import type { Server, Socket } from 'node:net'
import { clientOf } from './plugins/rate-limit.js'

interface Connection {
  socket: Socket
  client: string
  /** Requests that are not answered yet. */
  busy: number
}

export class Connections {
  readonly #max: number
  /** By client; those of a client from the least to the most recently used. */
  readonly #clients = new Map<string, Set<Connection>>()
  /** By `nameOf`: a request over TLS has another socket than the connection. */
  readonly #byName = new Map<string, Connection>()
  /** By the socket of its requests, which saves their names. */
  readonly #ofRequests = new WeakMap<Socket, Connection>()

  constructor(server: Server, max: number) {
    this.#max = max
    server.on('connection', (socket) => this.#add(socket))
  }

  /**
   * Counts a request on a connection, which is then not closed for being idle.
   * @returns ends it
   */
  begin(socket: Socket): () => void {
    const connection = this.#ofRequests.get(socket) ?? this.#byName.get(nameOf(socket))
    if (connection === undefined) return () => undefined
    this.#ofRequests.set(socket, connection)
    connection.busy += 1
    this.#touch(connection)
    return () => {
      connection.busy -= 1
    }
  }

  #add(socket: Socket): void {
    // It is closed already.
    if (socket.remoteAddress === undefined) return void socket.destroy()
    const client = clientOf({ key: undefined, ip: socket.remoteAddress })
    const connection = { socket, client, busy: 0 }
    const name = nameOf(socket)
    this.#byName.set(name, connection)
    this.#clients.set(client, (this.#clients.get(client) ?? new Set()).add(connection))
    socket.once('close', () => {
      if (this.#byName.get(name) === connection) this.#byName.delete(name)
      this.#remove(connection)
    })
    if (this.#byName.size > this.#max) this.#end(this.#replaced(connection))
  }

  /**
   * An idle connection of the client with the most, or its oldest one if the new client has fewer.
   * Otherwise an idle one of any client, or the new one itself.
   */
  #replaced(added: Connection): Connection {
    const own = this.#of(added.client)
    let most = own
    for (const held of this.#clients.values()) if (held.size > most.size) most = held
    const idle = firstIdle(most)
    if (idle !== undefined && idle !== added) return idle
    const [oldest = added] = most
    if (most.size > own.size) return oldest
    return firstIdle(this.#byName.values()) ?? added
  }

  #of(client: string): ReadonlySet<Connection> {
    return this.#clients.get(client) ?? new Set()
  }

  /** Frees its place at once: the socket emits `close` later. */
  #end(connection: Connection): void {
    this.#byName.delete(nameOf(connection.socket))
    this.#remove(connection)
    connection.socket.destroy()
  }

  #remove(connection: Connection): void {
    const held = this.#clients.get(connection.client)
    held?.delete(connection)
    if (held?.size === 0) this.#clients.delete(connection.client)
  }

  #touch(connection: Connection): void {
    const held = this.#clients.get(connection.client)
    if (held?.delete(connection)) held.add(connection)
  }
}

function nameOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}

function firstIdle(connections: Iterable<Connection>): Connection | undefined {
  for (const connection of connections) if (connection.busy === 0) return connection
  return undefined
}
