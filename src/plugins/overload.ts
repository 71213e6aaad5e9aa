/**
 * Keeps the service answering when more is asked than it can do: a limited number of requests at a time, a time limit
 * for each, and no work for clients that have gone.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../errors.js'
import type { Readiness } from '../readiness.js'
import type { Call } from '../retrieval.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Takes no permit: it must answer also when the service is busy. */
    permit?: false
    /** Has no time limit: it streams, and its parts are limited instead. */
    timeLimit?: false
    /** Whether somebody waits for the answer, which is so without it, or the work can wait for those. */
    priority?: Call['priority']
  }
  interface FastifyRequest {
    /**
     * What the request asks of the model, undefined where it takes no permit. The signal fires when the client has gone
     * or the time is up. The framework's own `request.signal` is of no use here: it is aborted as soon as the body has
     * been read.
     */
    call: Call | undefined
  }
}

export interface OverloadOptions {
  maxConcurrentRequests: number
  requestTimeoutMs: number
  readiness: Readiness
}

const RETRY_AFTER_S = 1

export const overload = plugin<OverloadOptions>((app, options, done) => {
  const { maxConcurrentRequests, requestTimeoutMs, readiness } = options
  let permits = maxConcurrentRequests

  app.decorateRequest('call', undefined)
  app.addHook('onRequest', (request, reply, next) => {
    const { open, permit } = request.routeOptions.config
    if (open === true || permit === false || request.is404) return next()
    if (readiness.state !== 'ready') {
      return next(
        new TandemError('not_ready', `The service is ${readiness.state}: ${readiness.detail}.`, {
          retryAfterS: RETRY_AFTER_S,
        }),
      )
    }
    if (permits === 0) {
      const sentence = `${maxConcurrentRequests} requests are being answered, the most at a time; try again shortly.`
      return next(new TandemError('overloaded', sentence, { retryAfterS: RETRY_AFTER_S }))
    }
    permits -= 1
    reply.raw.once('close', () => (permits += 1))
    request.call = {
      signal: signalFor(request, reply, requestTimeoutMs),
      priority: request.routeOptions.config.priority,
    }
    next()
  })
  // A stop waits for every connection to end, and a client would keep one open for its next request.
  app.addHook('onSend', (_request, reply, _payload, next) => {
    if (readiness.state === 'stopping') reply.header('connection', 'close')
    next()
  })
  done()
})

function signalFor(request: FastifyRequest, reply: FastifyReply, timeoutMs: number): AbortSignal {
  const controller = new AbortController()
  const timer =
    request.routeOptions.config.timeLimit === false
      ? undefined
      : setTimeout(() => {
          const error = new TandemError('timed_out', `The request was not answered within ${timeoutMs} ms.`, {
            retryAfterS: RETRY_AFTER_S,
          })
          controller.abort(error)
          if (!reply.sent) reply.send(error)
        }, timeoutMs)
  reply.raw.once('close', () => {
    clearTimeout(timer)
    if (!reply.raw.writableFinished) controller.abort()
  })
  return controller.signal
}
