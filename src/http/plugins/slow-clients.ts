/**
 * Lets go of connections that are held by saying little: a body that hardly arrives, an answer that
 * is hardly read.
 *
 * A stream of many items may take hours, so no limit of time would do. What counts is the pace, and
 * only while the service waits for the client: each request has some patience, which waiting uses
 * up and every byte restores. (Heads of requests and connections that say nothing at all are timed
 * by Node itself.)
 */
import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { FastifyReply, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'

export interface SlowClientsOptions {
  /**
   * The pace that restores as much patience as waiting uses up; 0 is content with any and times
   * nothing.
   */
  minBytesPerS: number
  /** Patience at the beginning, in milliseconds. */
  patienceMs?: number
}

const PATIENCE_MS = 10_000
/**
 * What quick bytes can save up for a pause, and how long an answer may lie with nothing taken, in
 * patiences.
 */
const MOST_PATIENCE = 6

/** One request whose body has not arrived, or whose answer has not been taken. */
interface Exchange {
  request: FastifyRequest
  reply: FastifyReply
  patienceMs: number
  received: number
  written: number
}

export const slowClients = plugin<SlowClientsOptions>(
  (app, { minBytesPerS, patienceMs = PATIENCE_MS }, done) => {
    const open = new Map<FastifyRequest, Exchange>()
    const everyMs = Math.min(1000, patienceMs / 4)
    const mostMs = patienceMs * MOST_PATIENCE
    const worthMs = (bytes: number): number => (bytes / minBytesPerS) * 1000

    function look(exchange: Exchange): void {
      const { request, reply } = exchange
      const { socket } = request.raw
      if (socket.destroyed || (request.raw.complete && reply.raw.writableFinished)) {
        open.delete(request)
        return
      }
      const { bytesRead, bytesWritten } = socket
      // What comes behind the answer is of no use to anybody: it buys no time.
      const received = reply.raw.writableFinished ? 0 : worthMs(bytesRead - exchange.received)
      const most = Math.max(exchange.patienceMs, mostMs)
      // How much of an answer was taken is seen in large steps at best: its size buys the time at
      // once.
      const written = worthMs(bytesWritten - exchange.written)
      // A look that comes late because the service was busy costs no more than one in time.
      const waited = isComing(request) || socket.writableLength > 0 ? everyMs : 0
      const patience = Math.min(exchange.patienceMs + received, most) + written - waited
      Object.assign(exchange, { received: bytesRead, written: bytesWritten, patienceMs: patience })
      if (patience < 0) letGo(exchange)
    }

    function letGo(exchange: Exchange): void {
      const { request, reply } = exchange
      open.delete(request)
      if (reply.sent) {
        request.raw.socket.destroy()
        return
      }
      const sentence = `The body arrived at less than ${minBytesPerS} bytes a second; the connection is closed.`
      reply.header('connection', 'close').send(new TandemError('request_too_slow', sentence))
    }

    if (minBytesPerS > 0) {
      const timer = setInterval(() => open.forEach(look), everyMs).unref()
      app.addHook('onClose', (_app, closed) => {
        clearInterval(timer)
        closed()
      })
      app.addHook('onRequest', (request, reply, next) => {
        const { socket } = request.raw
        if (socket instanceof Socket) {
          open.set(request, {
            request,
            reply,
            patienceMs,
            received: socket.bytesRead,
            written: socket.bytesWritten,
          })
        }
        next()
      })
      // Most have come whole by then: kept until the next look, thousands of them would outlive the
      // young generation.
      app.addHook('onResponse', (request, _reply, next) => {
        if (request.raw.complete) open.delete(request)
        next()
      })
      app.addHook('onSend', ({ raw: { socket } }, reply, _payload, next) => {
        // From here on nothing but the client is waited for. Node's own clock starts again with
        // whatever is taken, which it does not see through TLS: there a client that reads slowly
        // would be cut off, so the pace alone counts.
        if (socket instanceof Socket && !(socket instanceof TLSSocket))
          reply.raw.setTimeout(mostMs, () => socket.destroy())
        next()
      })
    }
    done()
  },
)

/**
 * Whether more of the body is awaited: all that has come was taken, so that it is not the service
 * that is slow.
 */
function isComing({ raw }: FastifyRequest): boolean {
  return !raw.complete && raw.readableLength === 0
}
