/** The sentence of an error where clients of other services read it, beside the problem. */
import type { Problem } from '../schemas/fields.js'

/** `error.message` is of OpenAI's clients and most others, `message` of Cohere's. */
export function errorAndMessage({ status, code, detail }: Problem): object {
  return { error: { message: detail, type: typeOf(status), param: null, code }, message: detail }
}

/** Types of OpenAI's errors. */
function typeOf(status: number): string {
  if (status >= 500) return 'server_error'
  const types: Readonly<Record<number, string>> = {
    401: 'authentication_error',
    403: 'permission_error',
    404: 'not_found_error',
    429: 'rate_limit_error',
  }
  return types[status] ?? 'invalid_request_error'
}
