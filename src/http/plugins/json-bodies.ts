/** Parses application/json bodies, and refuses those that readers could understand differently. */
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import { JsonTextError, parsedJsonText } from '../json-text.js'

export const jsonBodies = plugin(
  (app, _options, done) => {
    app.removeContentTypeParser('application/json')
    app.addContentTypeParser(
      'application/json',
      { parseAs: 'string' },
      (_request, body, parsed) => {
        if (body === '') {
          const sentence = 'The body is empty; its Content-Type is application/json.'
          return parsed(new TandemError('body_missing', sentence))
        }
        try {
          parsed(null, parsedJsonText(body as string))
        } catch (error) {
          parsed(
            error instanceof JsonTextError
              ? new TandemError('body_unreadable', `The body ${error.message}.`)
              : (error as Error),
          )
        }
      },
    )
    done()
  },
  { name: 'json-bodies' },
)
