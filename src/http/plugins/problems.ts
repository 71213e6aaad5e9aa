/**
 * Turns every error into problem+json (RFC 9457), and says what a wrong address or method could
 * have been.
 */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { errorTable, TandemError, type ErrorCode } from '../../errors.js'
import type { Problem } from '../schemas/fields.js'

/** What the framework throws, by its code, as one of ours. The sentences name what was given. */
const fromFramework: Record<
  string,
  { code: ErrorCode; sentence: (request: FastifyRequest) => string }
> = {
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    code: 'body_unreadable',
    sentence: () => 'The body is not as long as its Content-Length says.',
  },
  FST_ERR_CTP_BODY_TOO_LARGE: {
    code: 'body_too_large',
    sentence: (request) =>
      `The body is larger than ${request.routeOptions.bodyLimit} bytes, the most this service takes.`,
  },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: 'media_type_unsupported',
    sentence: (request) =>
      `The Content-Type is ${JSON.stringify(request.headers['content-type'] ?? '')}, which this address does not take; see /docs.`,
  },
  FST_ERR_BAD_URL: {
    code: 'url_unreadable',
    sentence: () => 'The address has a percent sign that is not followed by a valid code.',
  },
  FST_ERR_MAX_PARAM_LENGTH: {
    code: 'invalid_request',
    sentence: () => 'The id in the address is longer than 256 characters.',
  },
}

/**
 * The error as a client may see it; whatever is not meant for clients becomes `internal_error`
 * without its message.
 */
export function tandemError(error: unknown, request: FastifyRequest): TandemError {
  if (error instanceof TandemError) return error
  const { code, statusCode, name } = error as Partial<FastifyError>
  const known = fromFramework[code ?? '']
  if (known !== undefined)
    return new TandemError(known.code, known.sentence(request), { cause: error })
  if (name === 'AbortError')
    return new TandemError('request_cancelled', 'The request was cancelled.', { cause: error })
  // What the framework calls the client's fault and has no code for.
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new TandemError('body_unreadable', (error as Error).message, { cause: error })
  }
  return new TandemError(
    'internal_error',
    'Something went wrong in the service; its log has the details.',
    {
      cause: error,
    },
  )
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
      return sendProblem(
        new TandemError('route_not_found', `There is nothing at ${shown}; see /docs.`),
        request,
        reply,
      )
    }
    reply.header('allow', allowed)
    const sentence = `${shown} takes ${allowed}, not ${request.method}.`
    return sendProblem(new TandemError('method_not_allowed', sentence), request, reply)
  })
  done()
})
