/**
 * Pages of the listed origins may call the service and read its replies (CORS). Replies never allow
 * credentials: the service knows no cookies, and a page sends its API key in a header.
 */
import type { FastifyCorsOptions } from '@fastify/cors'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { sendProblem } from './plugins/problems.js'

/**
 * For `@fastify/cors`, which is registered before all that refuses requests: a page can read a
 * refusal too.
 *
 * @param allowedOrigins - as browsers send them
 */
export function corsOptions(allowedOrigins: readonly string[]): FastifyCorsOptions {
  return {
    // False leaves the request to the host check, which refuses it.
    origin: (origin, next) => next(null, origin !== undefined && allowedOrigins.includes(origin)),
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE'],
    exposedHeaders: [
      'allow',
      'etag',
      'retry-after',
      'server-timing',
      'traceresponse',
      'x-warnings',
    ],
    maxAge: 600,
    // Its refusal would be plain text.
    strictPreflight: false,
  }
}

/** Answers a URL that the router cannot read. No hook runs for it. */
export function answerUnroutable(allowedOrigins: readonly string[]) {
  return (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void => {
    const { origin = '' } = request.headers
    if (allowedOrigins.includes(origin))
      reply.header('access-control-allow-origin', origin).header('vary', 'Origin')
    sendProblem(error, request, reply)
  }
}
