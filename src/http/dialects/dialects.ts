/**
 * A dialect: addresses, bodies and errors of another service, answered by the same retrieval, so
 * that its clients work with a new base URL. Permits, keys, deadlines and limits are those of our
 * own routes. Unlike those, a dialect ignores fields and parameters that it does not know, since
 * clients send more of them with every release.
 */
import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify'
import type { Readiness } from '../plugins/overload.js'
import type { Problem } from '../schemas/fields.js'
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

export interface Dialect {
  routes?: FastifyPluginCallback<DialectOptions>
  shared?: readonly SharedAddress[]
  /** More members of a problem, where clients read the sentence of an error. */
  errorMembers: (problem: Problem) => object
}
