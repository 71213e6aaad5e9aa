/** Answers every error as problem+json (RFC 9457), unknown routes and methods included. */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { clip, errorTable, TandemError, type ErrorCode } from '../../errors.js'
import { RefusalLog } from '../refusal-log.js'
import type { Problem } from '../schemas/fields.js'

declare module 'fastify' {
  interface FastifyInstance {
    refusals: RefusalLog
    /** The error of a request without a route; sets Allow where the path has other methods. */
    unmatched: (request: FastifyRequest, reply: FastifyReply) => TandemError
    /** More members of the errors of a request without a route. */
    unmatchedMembers: (request: FastifyRequest) => ErrorMembers | undefined
  }
}

/** More members of the body of an error, which RFC 9457 allows. */
export type ErrorMembers = (problem: Problem) => object

/** Errors that refuse a request before any work. */
export const REFUSALS: readonly (ErrorCode | undefined)[] = [
  'overloaded',
  'rate_limited',
  'not_ready',
]
/** Characters of a path in an error. */
const MAX_SHOWN = 200

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
  FST_ERR_BAD_URL: ({ url }, cause) =>
    new TandemError(
      'url_unreadable',
      { place: 'The path', codes: clip(url.split('?')[0] ?? '', MAX_SHOWN) },
      { cause },
    ),
  FST_ERR_MAX_PARAM_LENGTH: (_request, cause) =>
    new TandemError('invalid_request', 'The id in the URL is longer than 256 characters.', {
      cause,
    }),
}

/** The error for the client. Errors that are not for clients become `internal_error`. */
export function tandemError(error: unknown, request: FastifyRequest): TandemError {
  if (error instanceof TandemError) return error as TandemError
  const { code, statusCode, name } = error as Partial<FastifyError>
  const known = fromFramework[code ?? '']
  if (known !== undefined) return known(request, error)
  if (name === 'AbortError') return new TandemError('request_cancelled', {}, { cause: error })
  // Other errors that the framework attributes to the client.
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new TandemError('body_unreadable', (error as Error).message, { cause: error })
  }
  return new TandemError('internal_error', {}, { cause: error })
}

/** @param instance - the id of the request, as in the log */
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

/** The path prefix that a proxy has removed from the URL, such as "/tandem". */
export function prefixOf({ headers }: FastifyRequest): string {
  const prefix = headers['x-forwarded-prefix']
  return typeof prefix === 'string' && /^(\/[\w.~-]+){1,8}$/.test(prefix) ? prefix : ''
}

/** The error for the client, once it is logged. */
export function loggedError(thrown: unknown, request: FastifyRequest): TandemError {
  const error = tandemError(thrown, request)
  request.failure = error.code
  request.failureReason = error.reason
  logFailure(error, request)
  return error
}

/**
 * Logs an error by its code and title, because its sentence quotes what the client sent; a fault of
 * the service with its cause.
 */
export function logFailure(error: TandemError, { log, server }: FastifyRequest): void {
  const { code, status, cause } = error
  if (REFUSALS.includes(code)) server.refusals.add(code)
  else if (status >= 500 && (cause !== undefined || code === 'internal_error'))
    log.error({ err: error }, errorTable[code].title)
  else log.info({ code }, errorTable[code].title)
}

/**
 * Answers with the error, and logs it.
 */
export function sendProblem(
  thrown: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  members: ErrorMembers = () => ({}),
): void {
  const error = loggedError(thrown, request)
  const problem = problemOf(error, request.id)
  if (error.retryAfterS !== undefined) reply.header('retry-after', String(error.retryAfterS))
  // The route set these for its own reply.
  reply.removeHeader('etag').header('cache-control', 'no-store')
  // The reply schema of the route does not fit an error.
  reply
    .code(error.status)
    .type('application/problem+json')
    .serializer((body: unknown) => JSON.stringify(body))
    .send({
      ...problem,
      type: `${prefixOf(request)}${problem.type}`,
      ...members(problem),
    })
}

/** Collects the methods of each route, to tell 405 from 404. */
function collectMethods(app: FastifyInstance): (path: string) => string[] {
  const routes = new Map<string, { pattern: RegExp; methods: Set<string> }>()
  app.addHook('onRoute', ({ url, method }) => {
    // CORS adds OPTIONS to every path.
    if (url === '*') return
    const escaped = url.replace(/[.+^${}()|[\]\\]/g, '\\$&')
    const pattern = new RegExp(`^${escaped.replace(/:\w+/g, '[^/]+').replaceAll('*', '.*')}$`)
    const route = routes.get(url) ?? { pattern, methods: new Set() }
    for (const name of [method].flat()) route.methods.add(name)
    routes.set(url, route)
  })
  return (path) =>
    [...routes.values()]
      .filter(({ pattern }) => pattern.test(path))
      .flatMap(({ methods }) => [...methods])
}

/** Register it before any route. */
export const problems = plugin(
  (app, _options, done) => {
    const methodsAt = collectMethods(app)
    app.decorate('refusals', new RefusalLog(app.log))
    app.decorate('unmatchedMembers', () => undefined)
    const answer = (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
      const members = request.is404 ? app.unmatchedMembers(request) : undefined
      sendProblem(error, request, reply, members)
    }
    app.setErrorHandler(answer)
    app.decorate('unmatched', ({ url, method }, reply) => {
      const path = url.split('?')[0] ?? ''
      const shown = path.slice(0, MAX_SHOWN)
      const allowed = [...new Set(methodsAt(path))].sort().join(', ')
      if (allowed === '') return new TandemError('route_not_found', { path: shown })
      reply.header('allow', allowed)
      return new TandemError('method_not_allowed', { path: shown, allowed, method })
    })
    app.setNotFoundHandler((request, reply) =>
      answer(app.unmatched(request, reply), request, reply),
    )
    done()
  },
  { name: 'problems' },
)
