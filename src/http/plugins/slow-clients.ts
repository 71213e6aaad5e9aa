/**
 * Closes connections of clients that send a body, or read an answer, too slowly.
 *
 * A stream of many items may take hours, so a time limit does not work. Each request has a credit
 * of milliseconds instead. It falls while the service waits for the client; every byte raises it.
 * (Node itself times the heads of requests and idle connections.)
 */
import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { FastifyReply, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'

export interface SlowClientsOptions {
  /** The pace at which the credit stays constant; 0 switches the check off. */
  minBytesPerS: number
  /** Credit at the start of a request, in milliseconds. */
  graceMs?: number
}

const GRACE_MS = 10_000
/** The most credit that a body can earn, and the time limit of an unread answer, in `graceMs`. */
const MAX_CREDIT = 6

/** One request whose body is incomplete, or whose answer is not sent yet. */
interface Exchange {
  request: FastifyRequest
  reply: FastifyReply
  creditMs: number
  received: number
  written: number
}

export const slowClients = plugin<SlowClientsOptions>(
  (app, { minBytesPerS, graceMs = GRACE_MS }, done) => {
    if (minBytesPerS === 0) return done()
    const exchanges = new Map<FastifyRequest, Exchange>()
    const intervalMs = Math.min(1000, graceMs / 4)
    const maxMs = graceMs * MAX_CREDIT
    const worthMs = (bytes: number): number => (bytes / minBytesPerS) * 1000

    function check(exchange: Exchange): void {
      const { request, reply, creditMs } = exchange
      const { socket } = request.raw
      if (socket.destroyed || (request.raw.complete && reply.raw.writableFinished)) {
        exchanges.delete(request)
        return
      }
      const { bytesRead, bytesWritten } = socket
      // Bytes after the reply do not count, because they are not read.
      const received = reply.raw.writableFinished ? 0 : worthMs(bytesRead - exchange.received)
      // The kernel reports written bytes in large steps, so they may exceed the most credit.
      const written = worthMs(bytesWritten - exchange.written)
      // A check that runs late because the service is busy costs as much as one in time.
      const waited = isAwaited(request) || socket.writableLength > 0 ? intervalMs : 0
      exchange.creditMs =
        Math.min(creditMs + received, Math.max(creditMs, maxMs)) + written - waited
      exchange.received = bytesRead
      exchange.written = bytesWritten
      if (exchange.creditMs < 0) refuse(exchange)
    }

    function refuse({ request, reply }: Exchange): void {
      exchanges.delete(request)
      if (reply.sent) {
        request.raw.socket.destroy()
        return
      }
      const sentence = `The body arrived at less than ${minBytesPerS} bytes a second; the connection is closed.`
      reply.header('connection', 'close').send(new TandemError('request_too_slow', sentence))
    }

    const timer = setInterval(() => exchanges.forEach(check), intervalMs).unref()
    app.addHook('onClose', (_app, closed) => {
      clearInterval(timer)
      closed()
    })
    app.addHook('onRequest', (request, reply, next) => {
      const { socket } = request.raw
      if (socket instanceof Socket) {
        const { bytesRead: received, bytesWritten: written } = socket
        exchanges.set(request, { request, reply, creditMs: graceMs, received, written })
      }
      next()
    })
    // Most requests are complete by now. Kept until the next check, they would outlive the young
    // generation of the heap.
    app.addHook('onResponse', (request, _reply, next) => {
      if (request.raw.complete) exchanges.delete(request)
      next()
    })
    app.addHook('onSend', ({ raw: { socket } }, reply, _payload, next) => {
      // Node restarts this timer with each byte that the client takes. It does not see them through
      // TLS, where it would close connections of slow readers: there the credit alone counts.
      if (socket instanceof Socket && !(socket instanceof TLSSocket))
        reply.raw.setTimeout(maxMs, () => socket.destroy())
      next()
    })
    done()
  },
  { name: 'slow-clients', dependencies: ['problems'] },
)

/** Whether the service has taken all bytes that came and waits for more of the body. */
function isAwaited({ raw }: FastifyRequest): boolean {
  return !raw.complete && raw.readableLength === 0
}
