/** Bodies as clients of other services send them. */
import { errorCodes, type FastifyInstance, type FastifyRequest } from 'fastify'
import { readJson } from '../plugins/bodies.js'

/**
 * Parses a body without a Content-Type as JSON, and one of type text/plain, which `fetch` names for
 * a string; and takes null for an absent field. For the routes of `app` alone.
 */
export function acceptClientBodies(app: FastifyInstance): void {
  app.addContentTypeParser('text/plain', readJson)
  app.addContentTypeParser('*', (request, stream, parsed) => {
    if (request.headers['content-type'] === undefined) readJson(request, stream, parsed)
    else parsed(new errorCodes.FST_ERR_CTP_INVALID_MEDIA_TYPE(request.headers['content-type']))
  })
  app.addHook('preValidation', (request, _reply, next) => {
    if (isObject(request.body)) request.body = withoutNulls(request.body)
    next()
  })
}

/** The fields that are not null. Clients write null for options that are not set. */
export function withoutNulls(body: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null))
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The fields of a body that is an object; none of another one. */
export function fieldsOf({ body }: Pick<FastifyRequest, 'body'>): Record<string, unknown> {
  return isObject(body) ? withoutNulls(body) : {}
}
