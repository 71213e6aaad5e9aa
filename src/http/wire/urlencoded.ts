/** The fields of a form in application/x-www-form-urlencoded, which clients send without a file. */
import type { Readable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import { TandemError } from '../../errors.js'
import { readBytes } from '../plugins/bodies.js'
import { utf8Text } from '../utf8.js'
import { MAX_FIELD_BYTES, type FormField } from './form.js'

export const URLENCODED = 'application/x-www-form-urlencoded'

/** A parser of Fastify. A form may be as large as a field of a multipart form. */
export function readUrlencoded(
  request: FastifyRequest,
  stream: Readable,
  parsed: (error: Error | null, fields?: FormField[]) => void,
): void {
  readBytes(request, stream, (error, body) => {
    if (body === undefined) return parsed(error)
    try {
      parsed(null, fieldsIn(body))
    } catch (refusal) {
      parsed(refusal as TandemError)
    }
  })
}

/** @throws TandemError body_too_large, body_unreadable, text_unreadable */
function fieldsIn(body: Buffer): FormField[] {
  if (body.length > MAX_FIELD_BYTES)
    throw new TandemError(
      'body_too_large',
      `The form has ${body.length} bytes; expected at most ${MAX_FIELD_BYTES}: send files in multipart/form-data.`,
    )
  return utf8Text(body, 'The form')
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const end = pair.indexOf('=')
      const [name, value] = end < 0 ? [pair, ''] : [pair.slice(0, end), pair.slice(end + 1)]
      return { name: decoded(name), value: decoded(value) }
    })
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch (error) {
    throw new TandemError('body_unreadable', 'The form is not percent-encoded UTF-8.', {
      cause: error,
    })
  }
}
