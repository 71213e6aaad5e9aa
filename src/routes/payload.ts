/** Payloads written as JSON text: in an address, a header or a form field. */
import { parse } from 'secure-json-parse'
import { TandemError } from '../errors.js'
import { checked, compileExact } from '../plugins/validation.js'
import { Payload } from '../schemas.js'

const MAX_PAYLOAD_BYTES = 65_536
const validate = compileExact<Payload>(Payload)

/** JSON text as a value. @throws TandemError payload_invalid for broken JSON, and for keys such as "__proto__" */
export function parsedJson(text: string, name: string): unknown {
  try {
    return parse(text)
  } catch {
    throw new TandemError(
      'payload_invalid',
      `${name} is not valid JSON (or has a key such as "__proto__"): ${JSON.stringify(text.slice(0, 60))}.`,
    )
  }
}

/** The payload in a JSON text; null where there is none. */
export function payloadOf(text: string | undefined, name: string): Payload | null {
  if (text === undefined) return null
  return limitedPayload(checked(validate, parsedJson(text, name), 'field'))
}

/** @throws TandemError payload_invalid */
export function limitedPayload(payload: Payload | undefined): Payload | null {
  if (payload === undefined) return null
  const bytes = Buffer.byteLength(JSON.stringify(payload))
  if (bytes <= MAX_PAYLOAD_BYTES) return payload
  throw new TandemError(
    'payload_invalid',
    `The payload has ${bytes} bytes as JSON; expected at most ${MAX_PAYLOAD_BYTES}.`,
  )
}
