/**
 * A dialect: addresses, bodies and errors of another service, answered by the same retrieval, so
 * that its clients work with a new base URL. Permits, keys, deadlines and limits are those of our
 * own routes. Unlike those, a dialect ignores fields and parameters that it does not know, since
 * clients send more of them with every release.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify'
import type { Readiness } from '../plugins/overload.js'
import type { ErrorMembers } from '../plugins/problems.js'
import type { InputOptions } from '../wire/inputs.js'

export interface DialectOptions extends InputOptions {
  readiness: Readiness
  /** Whether there are items to search; an encoder has none. */
  hasItems: boolean
}

/** A request of another service at an address of our own, told by its shape. */
export interface SharedAddress {
  path: '/embed' | '/rerank' | '/'
  recognises: (request: FastifyRequest) => boolean
  /** @returns the reply, as an object or as JSON text */
  answer: (
    request: FastifyRequest,
    reply: FastifyReply,
    options: DialectOptions,
  ) => Promise<object | string>
}

/**
 * Adds routes. Dialects with the same `errorMembers` share a scope, since a scope takes a
 * millisecond of a start: a hook or a parser of one dialect needs a scope of its own.
 */
export type DialectRoutes = (
  app: FastifyInstance<
    RawServerDefault,
    RawRequestDefaultExpression,
    RawReplyDefaultExpression,
    FastifyBaseLogger,
    TypeBoxTypeProvider
  >,
  options: DialectOptions,
) => void

export interface Dialect {
  routes?: DialectRoutes
  shared?: readonly SharedAddress[]
  /** More members of a problem, where clients read the sentence of an error. */
  errorMembers: ErrorMembers
}
