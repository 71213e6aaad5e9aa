/**
 * Handles pipelined requests one at a time. Node parses all requests that a client sends ahead and
 * hands them on at once, so one packet could start 1,000 unread replies. A request waits
 * here until the reply before it on the connection has been sent.
 */
import type { Socket } from 'node:net'
import plugin from 'fastify-plugin'

/** Requests that may wait on one connection. Node cannot stop inside a packet, so more end it. */
const MAX_WAITING = 100

export const pipelining = plugin(
  (app, _options, done) => {
    const waiting = new WeakMap<Socket, number>()
    app.addHook('onRequest', (request, reply, next) => {
      // Node gives a reply its socket once the reply before it is finished.
      if (reply.raw.socket !== null) return next()
      const { socket } = request.raw
      const count = (waiting.get(socket) ?? 0) + 1
      waiting.set(socket, count)
      if (count > MAX_WAITING) return void socket.destroy()
      reply.raw.once('socket', () => {
        waiting.set(socket, (waiting.get(socket) ?? 1) - 1)
        // Another connection gets its turn of the event loop first.
        setImmediate(() => {
          if (!socket.destroyed) next()
        })
      })
    })
    done()
  },
  { name: 'pipelining' },
)
