/**
 * Keeps the service answering when more is asked than it can do: a limited number of requests at a
 * time, fewer of those that can wait, a time limit for each, and no work for clients that have
 * gone.
 */
import { setMaxListeners } from 'node:events'
import type { FastifyReply, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import type { Readiness } from '../readiness.js'
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
    /**
     * Whether somebody waits for the answer, which is so without it, or the work can wait for
     * those.
     */
    priority?: Call['priority']
  }
  interface FastifyRequest {
    /**
     * What the request asks of the model, undefined where it takes no permit. The signal fires when
     * the client has gone or the time is up. The framework's own `request.signal` is of no use
     * here: it is aborted as soon as the body has been read.
     */
    call: Call | undefined
  }
  interface FastifyReply {
    /**
     * The call of a request that turns out to be bulk by what its body asks for; takes a permit of
     * those.
     * @throws TandemError `overloaded`
     */
    asBulk: () => Call | undefined
  }
}

export interface OverloadOptions {
  maxConcurrentRequests: number
  maxConcurrentBulkRequests: number
  requestTimeoutMs: number
  readiness: Readiness
}

const RETRY_AFTER_S = 1

export const overload = plugin<OverloadOptions>((app, options, done) => {
  const { maxConcurrentRequests, maxConcurrentBulkRequests, requestTimeoutMs, readiness } = options
  const permits = new Permits({
    interactive: maxConcurrentRequests,
    bulk: maxConcurrentBulkRequests,
  })

  /** Takes a permit for the request, which comes back with its connection or its reply. */
  function permit(
    request: FastifyRequest,
    reply: FastifyReply,
    priority: 'interactive' | 'bulk',
  ): void {
    const taken = permits.take(priority, clientOf(request))
    if (typeof taken === 'string')
      throw new TandemError('overloaded', taken, { retryAfterS: RETRY_AFTER_S })
    onceOver(reply, taken)
  }

  app.decorateRequest('call', undefined)
  app.decorateReply('asBulk', function (this: FastifyReply): Call | undefined {
    permit(this.request, this, 'bulk')
    return { ...this.request.call, priority: 'bulk' }
  })
  app.addHook('onRequest', (request, reply, next) => {
    const {
      open,
      permit: permitted,
      priority = 'interactive',
      timeLimit,
    } = request.routeOptions.config
    if (open === true || permitted === false || request.is404) return next()
    if (readiness.state !== 'ready') {
      return next(
        new TandemError('not_ready', `The service is ${readiness.state}: ${readiness.detail}.`, {
          retryAfterS: RETRY_AFTER_S,
        }),
      )
    }
    try {
      const milliseconds = timeLimitOf(request, timeLimit === false ? undefined : requestTimeoutMs)
      permit(request, reply, priority)
      const deadline = milliseconds === undefined ? undefined : performance.now() + milliseconds
      request.call = {
        signal: signalFor(reply, milliseconds),
        priority,
        deadline,
        trace: request.trace,
      }
    } catch (error) {
      return next(error as TandemError)
    }
    next()
  })
  // A stop waits for every connection to end, and a client would keep one open for its next
  // request.
  app.addHook('onSend', (_request, reply, _payload, next) => {
    if (readiness.state === 'stopping') reply.header('connection', 'close')
    next()
  })
  done()
})

/** @param milliseconds - undefined for no limit */
function signalFor(reply: FastifyReply, milliseconds: number | undefined): AbortSignal {
  const controller = new AbortController()
  // Each input of a request listens; Node warns of more than ten listeners.
  setMaxListeners(0, controller.signal)
  const onTime = (): void => {
    const error = new TandemError(
      'timed_out',
      `The request was not answered within ${milliseconds} ms.`,
      {
        retryAfterS: RETRY_AFTER_S,
      },
    )
    controller.abort(error)
    if (!reply.sent) reply.send(error)
  }
  const timer = milliseconds === undefined ? undefined : setTimeout(onTime, milliseconds)
  onceOver(reply, () => {
    clearTimeout(timer)
    if (!reply.raw.writableFinished) controller.abort()
  })
  return controller.signal
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
