/**
 * Checks requests against the schemas of their routes. Values in URLs and forms are strings, so
 * they are converted to numbers and booleans; values in JSON bodies are not converted.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import plugin from 'fastify-plugin'
import type { TSchema } from 'typebox'
import { TandemError } from '../../errors.js'
import type { readByRoute } from '../schemas/fields.js'
import { sentenceFor } from './validation-message.js'

// verbose: errors hold the value and the schema, which the sentence quotes.
const shared = {
  useDefaults: true,
  removeAdditional: false,
  verbose: true,
  strict: false,
  validateFormats: false,
} as const
const exact = new Ajv({ ...shared, coerceTypes: false })
const coercing = new Ajv({ ...shared, coerceTypes: true })

/** Compiles a schema for values in JSON. */
export function compileExact<Value>(schema: TSchema): ValidateFunction<Value> {
  return exact.compile<Value>(schema)
}

/** Compiles a schema for strings in a URL or a form. */
export function compileCoercing<Value>(schema: TSchema): ValidateFunction<Value> {
  return coercing.compile<Value>(schema)
}

/**
 * The value, once the validator accepts it.
 *
 * @throws TandemError invalid_request naming the field, what was given and what is expected
 */
export function checked<Value>(
  validate: ValidateFunction<Value>,
  value: unknown,
  kind: 'field' | 'parameter',
): Value {
  if (validate(value)) return value
  throw new TandemError('invalid_request', sentenceFor(validate.errors ?? [], kind))
}

/** Installs the validators for every route. */
export const validation = plugin(
  (app, _options, done) => {
    app.setValidatorCompiler<TSchema & Partial<typeof readByRoute>>(({ schema, httpPart }) => {
      if (schema['x-read-by-route'] === true) return () => true
      return (httpPart === 'body' ? exact : coercing).compile(schema)
    })
    app.setSchemaErrorFormatter((errors, part) => {
      const kind = part === 'querystring' ? 'parameter' : 'field'
      return new TandemError('invalid_request', sentenceFor(errors as ErrorObject[], kind))
    })
    app.addHook('preValidation', (request, _reply, next) => {
      const form = request.headers['content-type']?.startsWith('multipart/') === true
      const missing =
        request.routeOptions.schema?.body !== undefined && request.body === undefined && !form
      next(
        missing
          ? new TandemError(
              'body_missing',
              'The request has no body, or no Content-Type; see the API documentation at /docs.',
            )
          : undefined,
      )
    })
    done()
  },
  { name: 'validation', dependencies: ['problems'] },
)
