/**
 * Turns every error into problem+json (RFC 9457), and says what a wrong address or method could
 * have been.
 */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { errorTable, TandemError } from '../../errors.js'
import type { Problem } from '../schemas/fields.js'

/** Errors of the framework, by their code. */
const fromFramework: Record<string, (request: FastifyRequest, cause: unknown) => TandemError> = {
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: (_request, cause) =>
    new TandemError('body_unreadable', 'The body does not have the length in its Content-Length.', {
      cause,
    }),
  FST_ERR_CTP_BODY_TOO_LARGE: ({ routeOptions }, cause) =>
    new TandemError(
      'body_too_large',
      `The body is larger than ${routeOptions.bodyLimit} bytes, the most this service takes.`,
      { cause },
    ),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ({ headers }, cause) =>
    new TandemError(
      'media_type_unsupported',
      `The Content-Type is ${JSON.stringify(headers['content-type'] ?? '')}, which this route does not take; see /docs.`,
      { cause },
    ),
  FST_ERR_BAD_URL: (_request, cause) => new TandemError('url_unreadable', {}, { cause }),
  FST_ERR_MAX_PARAM_LENGTH: (_request, cause) =>
    new TandemError('invalid_request', 'The id in the URL is longer than 256 characters.', {
      cause,
    }),
}

/**
 * The error as a client may see it; whatever is not meant for clients becomes `internal_error`
 * without its message.
 */
export function tandemError(error: unknown, request: FastifyRequest): TandemError {
  if (error instanceof TandemError) return error as TandemError
  const { code, statusCode, name } = error as Partial<FastifyError>
  const known = fromFramework[code ?? '']
  if (known !== undefined) return known(request, error)
  if (name === 'AbortError') return new TandemError('request_cancelled', {}, { cause: error })
  // What the framework calls the client's fault and has no code for.
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new TandemError('body_unreadable', (error as Error).message, { cause: error })
  }
  return new TandemError('internal_error', {}, { cause: error })
}

/** @param instance - names this occurrence: the id of the request, as the log has it */
export function problemOf(error: TandemError, instance: string): Problem {
  const { status, title } = errorTable[error.code]
  return {
    type: `/docs/errors#${error.code}`,
    title,
    status,
    detail: error.message,
    code: error.code,
    instance,
  }
}

/** Answers with the error. The log has the cause of what is the service's own fault. */
export function sendProblem(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = tandemError(thrown, request)
  request.failure = error.code
  if (error.status >= 500) request.log.error({ err: error }, error.message)
  else request.log.info({ code: error.code }, error.message)
  if (error.retryAfterS !== undefined) reply.header('retry-after', String(error.retryAfterS))
  // What the route meant for its own reply does not hold for an error.
  reply.removeHeader('etag').removeHeader('cache-control')
  // Serialised here: the reply schema of the route is not that of an error.
  reply
    .code(error.status)
    .type('application/problem+json')
    .serializer((problem: unknown) => JSON.stringify(problem))
    .send(problemOf(error, request.id))
}

/** Of an address that is repeated to who sent it. */
const LONGEST_SHOWN = 200

/** Methods by address pattern, to tell 405 from 404. */
function rememberRoutes(app: FastifyInstance): (path: string) => string[] {
  const methods = new Map<string, { pattern: RegExp; methods: Set<string> }>()
  app.addHook('onRoute', ({ url, method }) => {
    const escaped = url.replace(/[.+^${}()|[\]\\]/g, '\\$&')
    const pattern = new RegExp(`^${escaped.replace(/:\w+/g, '[^/]+').replaceAll('*', '.*')}$`)
    const known = methods.get(url) ?? { pattern, methods: new Set() }
    for (const one of [method].flat()) known.methods.add(one)
    methods.set(url, known)
  })
  return (path) =>
    [...methods.values()]
      .filter(({ pattern }) => pattern.test(path))
      .flatMap((known) => [...known.methods])
}

/** Installs the handlers for errors and for unknown addresses; register it before any route. */
export const problems = plugin((app, _options, done) => {
  const methodsAt = rememberRoutes(app)
  app.setErrorHandler(sendProblem)
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0] ?? ''
    const shown = path.slice(0, LONGEST_SHOWN)
    const allowed = [...new Set(methodsAt(path))].sort().join(', ')
    if (allowed === '') {
      return sendProblem(new TandemError('route_not_found', { path: shown }), request, reply)
    }
    reply.header('allow', allowed)
    const { method } = request
    return sendProblem(
      new TandemError('method_not_allowed', { path: shown, allowed, method }),
      request,
      reply,
    )
  })
  done()
})
