/**
 * Keeps the service responsive under more load than it can handle: a limited number of requests at
 * a time, fewer of those that can wait, a time limit for each, and no work for clients that left.
 */
import { setMaxListeners } from 'node:events'
import type { FastifyReply, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import type { Call } from '../../retrieval/retrieval.js'
import { timeLimitOf } from './deadline.js'
import { Permits } from './permits.js'
import { clientOf } from './rate-limit.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Takes no permit: it must answer also when the service is busy. */
    permit?: false
    /** Has no time limit: it streams, and its parts are limited instead. */
    timeLimit?: false
    /** `bulk` for work that can wait while clients wait for answers; `interactive` by default. */
    priority?: Call['priority']
  }
  interface FastifyRequest {
    /**
     * The context of calls to the model; undefined without a permit. The signal fires when the
     * client has closed the connection or the time is up. (Fastify's own `request.signal` fires
     * already when the body has been read.)
     */
    call: Call | undefined
  }
  interface FastifyReply {
    /**
     * The call of a request whose body makes it bulk; takes a bulk permit.
     * @throws TandemError `overloaded`
     */
    asBulk: () => Call | undefined
  }
}

/** Whether requests can be answered; read by /health/ready and by every route with a permit. */
export interface Readiness {
  state: 'starting' | 'ready' | 'stopping'
  /** The reason, for /health/ready. */
  detail: string
}

export interface OverloadOptions {
  maxConcurrentRequests: number
  maxConcurrentBulkRequests: number
  requestTimeoutMs: number
  readiness: Readiness
}

const RETRY_AFTER_S = 1

export const overload = plugin<OverloadOptions>(
  (app, options, done) => {
    const { maxConcurrentRequests, maxConcurrentBulkRequests, requestTimeoutMs, readiness } =
      options
    const permits = new Permits({
      interactive: maxConcurrentRequests,
      bulk: maxConcurrentBulkRequests,
    })

    /** @returns a function that gives the permit back */
    function takePermit(request: FastifyRequest, priority: 'interactive' | 'bulk'): () => void {
      const permit = permits.take(priority, clientOf(request))
      if (typeof permit === 'string')
        throw new TandemError('overloaded', permit, { retryAfterS: RETRY_AFTER_S })
      return permit
    }

    function callOf(request: FastifyRequest, reply: FastifyReply): Call {
      const { priority = 'interactive', timeLimit } = request.routeOptions.config
      const milliseconds = timeLimitOf(request, timeLimit === false ? undefined : requestTimeoutMs)
      const endPermit = takePermit(request, priority)
      const { signal, end: endSignal } = signalFor(reply, milliseconds)
      onceOver(reply, () => {
        endPermit()
        endSignal()
      })
      const deadline = milliseconds === undefined ? undefined : performance.now() + milliseconds
      const { trace } = request
      const client = clientOf(request)
      return { signal, priority, client, deadline, trace }
    }

    app.decorateRequest('call', undefined)
    app.decorateReply('asBulk', function (this: FastifyReply): Call | undefined {
      onceOver(this, takePermit(this.request, 'bulk'))
      return { ...this.request.call, priority: 'bulk' }
    })
    app.addHook('onRequest', (request, reply, next) => {
      const { open, permit } = request.routeOptions.config
      if (open === true || permit === false || request.is404) return next()
      if (readiness.state !== 'ready') {
        const sentence = `The service is ${readiness.state}: ${readiness.detail}.`
        return next(new TandemError('not_ready', sentence, { retryAfterS: RETRY_AFTER_S }))
      }
      try {
        request.call = callOf(request, reply)
      } catch (error) {
        return next(error as TandemError)
      }
      next()
    })
    // A stop waits for every connection to end, and clients keep theirs open.
    app.addHook('onSend', (_request, reply, _payload, next) => {
      if (readiness.state === 'stopping') reply.header('connection', 'close')
      next()
    })
    done()
  },
  { name: 'overload', dependencies: ['tracing', 'identity'] },
)

/**
 * @param milliseconds - undefined for no limit
 * @returns the signal, and what to call when the reply is over
 */
function signalFor(
  reply: FastifyReply,
  milliseconds: number | undefined,
): { signal: AbortSignal; end: () => void } {
  const controller = new AbortController()
  // Each input of a request listens; Node warns of more than ten listeners.
  setMaxListeners(0, controller.signal)
  const onTime = (): void => {
    const sentence = `The request was not answered within ${milliseconds} ms.`
    const error = new TandemError('timed_out', sentence, { retryAfterS: RETRY_AFTER_S })
    controller.abort(error)
    if (!reply.sent) reply.send(error)
  }
  const timer = milliseconds === undefined ? undefined : setTimeout(onTime, milliseconds)
  const end = (): void => {
    clearTimeout(timer)
    if (!reply.raw.writableFinished) controller.abort()
  }
  return { signal: controller.signal, end }
}

/**
 * Calls `listener` once: when the reply is finished, or its connection closes. On Node 20 a reply
 * that waits behind another one emits no `close` when the socket is destroyed.
 */
function onceOver({ request, raw }: FastifyReply, listener: () => void): void {
  const { socket } = request.raw
  const over = (): void => {
    raw.off('close', over)
    socket.off('close', over)
    listener()
  }
  raw.once('close', over)
  socket.once('close', over)
}
