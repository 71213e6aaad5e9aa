/** Parses application/json bodies, and refuses those that readers could understand differently. */
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import { JsonTextError, parsedJsonText } from '../json-text.js'
import { utf8Text } from '../utf8.js'

export const jsonBodies = plugin(
  (app, _options, done) => {
    app.removeContentTypeParser('application/json')
    app.addContentTypeParser('application/json', { parseAs: 'buffer' }, parseJsonBody)
    done()
  },
  { name: 'json-bodies' },
)

/** A parser of Fastify for JSON in UTF-8. */
export function parseJsonBody(
  request: FastifyRequest,
  body: string | Buffer,
  parsed: (error: Error | null, value?: unknown) => void,
): void {
  if (body.length === 0) {
    if (request.routeOptions.schema?.body === undefined) return parsed(null, undefined)
    const sentence = 'The body is empty; its Content-Type is application/json.'
    return parsed(new TandemError('body_missing', sentence))
  }
  try {
    parsed(null, parsedJsonText(utf8Text(body as Buffer, 'The body')))
  } catch (error) {
    parsed(
      error instanceof JsonTextError
        ? new TandemError('body_unreadable', `The body ${error.message}.`)
        : (error as Error),
    )
  }
}
