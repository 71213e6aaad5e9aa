/** Payloads, and JSON written as text in an address, a header or a form field. */
import { clip, TandemError } from '../../errors.js'
import { JsonTextError, parsedJsonText } from '../json/json-text.js'
import { LongStrings } from '../json/long-strings.js'
import { checked, compileExact } from '../plugins/validation.js'
import { Payload } from '../schemas/fields.js'

const MAX_PAYLOAD_BYTES = 65_536
/** More levels than data needs, fewer than overflow the stack of a recursive reader. */
const MAX_PAYLOAD_DEPTH = 100
const validate = compileExact<Payload>(Payload)

/**
 * The value of a JSON text.
 *
 * @param name - of the text, in errors
 * @param code - of the error for text that is not JSON, or ambiguous JSON
 */
export function parseJson(
  text: string,
  name: string,
  code: 'payload_invalid' | 'invalid_request' = 'payload_invalid',
): unknown {
  try {
    return parsedJsonText(text)
  } catch (error) {
    throw jsonError(error, name, text, code)
  }
}

/**
 * The error of a client for one of `parsedJsonText`; other errors as they are.
 *
 * @param text - at least the start of it
 */
export function jsonError(
  error: unknown,
  name: string,
  text: string,
  code: 'payload_invalid' | 'invalid_request' = 'payload_invalid',
): unknown {
  if (!(error instanceof JsonTextError)) return error
  return new TandemError(code, `${name} ${error.message}: ${JSON.stringify(clip(text, 60))}.`)
}

/** The payload of a JSON text, or null. @throws TandemError payload_invalid, invalid_request */
export function payloadOf(text: string | undefined, name: string): Payload | null {
  if (text === undefined) return null
  return limitedPayload(checked(validate, parseJson(text, name), 'field'))
}

/**
 * @param longStrings - of the body whose field `payload` it is
 * @throws TandemError payload_invalid
 */
export function limitedPayload(
  payload: Payload | undefined,
  longStrings = LongStrings.none,
): Payload | null {
  if (payload === undefined) return null
  const known = longStrings.bytesOf('payload')
  if (known !== undefined) refuseLarge(known)
  refuseUnstorable(payload)
  if (known === undefined) refuseLarge(Buffer.byteLength(JSON.stringify(payload)))
  return payload
}

function refuseLarge(bytes: number): void {
  if (bytes <= MAX_PAYLOAD_BYTES) return
  throw new TandemError(
    'payload_invalid',
    `The payload has ${bytes} bytes as JSON; expected at most ${MAX_PAYLOAD_BYTES}.`,
  )
}

/**
 * Refuses values that could not be returned as they were sent. Walks level by level, since a deep
 * payload would overflow a recursion.
 */
function refuseUnstorable(payload: Payload): void {
  let containers: object[] = [payload]
  for (let depth = 0; containers.length > 0; depth += 1) {
    if (depth >= MAX_PAYLOAD_DEPTH)
      throw new TandemError(
        'payload_invalid',
        `The payload is nested more than ${MAX_PAYLOAD_DEPTH} levels deep; expected at most that.`,
      )
    const inside: object[] = []
    for (const container of containers)
      for (const value of Object.values(container) as unknown[]) {
        if (typeof value === 'number' && !Number.isFinite(value))
          throw new TandemError(
            'payload_invalid',
            'The payload has a number beyond the range of JSON numbers, ±1.8e308.',
          )
        if (typeof value === 'object' && value !== null) inside.push(value)
      }
    containers = inside
  }
}
