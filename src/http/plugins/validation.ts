/**
 * Checks requests against the schemas of their routes. Values in URLs and forms are strings, so
 * they are converted to numbers and booleans; values in JSON bodies are not converted.
 */
import { Ajv, type ErrorObject } from 'ajv'
import plugin from 'fastify-plugin'
import type { TSchema } from 'typebox'
import { TandemError } from '../../errors.js'
import type { readByRoute } from '../schemas/fields.js'
import { sentenceFor } from './validation-message.js'

// verbose: errors hold the value and the schema, which the sentence quotes. The schemas are our
// own, so that they need not be checked.
const shared = {
  meta: false,
  validateSchema: false,
  useDefaults: true,
  removeAdditional: false,
  verbose: true,
  strict: false,
  validateFormats: false,
} as const
const exact = new Ajv({ ...shared, coerceTypes: false })
const coercing = new Ajv({ ...shared, coerceTypes: true })

/** Tells whether a value fits a schema; `errors` are those of the last value. */
export interface Validator<Value> {
  (value: unknown): value is Value
  errors?: ErrorObject[] | null
}

/** Compiles at the first value: a start would spend a tenth of its time on routes without calls. */
function atFirstValue<Value>(compile: () => Validator<Value>): Validator<Value> {
  let compiled: Validator<Value> | undefined
  const validate: Validator<Value> = (value): value is Value => {
    compiled ??= compile()
    const isValid = compiled(value)
    validate.errors = compiled.errors ?? null
    return isValid
  }
  return validate
}

/** A validator of values in JSON. */
export function compileExact<Value>(schema: TSchema): Validator<Value> {
  return atFirstValue(() => exact.compile<Value>(schema))
}

const DECIMAL = /^-?\d+(\.\d+)?$/

/** A validator of strings in a URL or a form. Numbers are decimal: not 0x10 or 1e3. */
export function compileCoercing<Value>(schema: TSchema): Validator<Value> {
  return atFirstValue(() => coercingValidator<Value>(schema))
}

function coercingValidator<Value>(schema: TSchema): Validator<Value> {
  const validate = coercing.compile<Value>(schema)
  const { properties = {} } = schema as { properties?: Record<string, { type?: string }> }
  const numbers = Object.entries(properties).filter(
    ([, { type }]) => type === 'integer' || type === 'number',
  )
  if (numbers.length === 0) return validate
  const validateNumbers = exact.compile({ properties: Object.fromEntries(numbers) })
  function validateDecimal(data: unknown): boolean {
    const values = data as Record<string, unknown>
    const other = numbers.find(
      ([name]) => typeof values[name] === 'string' && !DECIMAL.test(values[name]),
    )
    // A string is no number to the validator of JSON, whose errors say what is expected.
    const accepted = other === undefined ? validate(data) : validateNumbers(pick(values, other[0]))
    const { errors } = other === undefined ? validate : validateNumbers
    Object.assign(validateDecimal, { errors })
    return accepted
  }
  return validateDecimal as Validator<Value>
}

function pick(values: Readonly<Record<string, unknown>>, name: string): Record<string, unknown> {
  return { [name]: values[name] }
}

/**
 * The value, once the validator accepts it.
 *
 * @throws TandemError invalid_request naming the field, what was given and what is expected
 */
export function checked<Value>(
  validate: Validator<Value>,
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
      return httpPart === 'body' ? compileExact(schema) : compileCoercing(schema)
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
