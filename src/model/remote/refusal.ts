/** Errors of the encoder as errors of this service. */
import type { IncomingHttpHeaders } from 'node:http'
import { TandemError, type ErrorCode } from '../../errors.js'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
}

/** Errors about the client's input or the load of the models, passed on unchanged. */
const PASSED_ON: readonly string[] = [
  'image_type_unsupported',
  'image_unreadable',
  'image_too_large',
  'image_too_costly',
  'overloaded',
  'model_unavailable',
  'decoder_unavailable',
] satisfies ErrorCode[]

/** @returns the error, and whether a retry may succeed */
export function refusalOf(
  { status, headers, body }: Answer,
  host: string,
): { error: TandemError; isPassing: boolean } {
  const { code, detail } = problemIn(body)
  if (PASSED_ON.includes(code)) {
    return {
      error: new TandemError(code as ErrorCode, detail, retryAfter(headers)),
      isPassing: false,
    }
  }
  switch (code) {
    case 'not_ready':
      return {
        error: unavailable(`The encoder at ${host} is not ready: ${detail}`),
        isPassing: true,
      }
    case 'bundle_mismatch':
      return {
        error: unavailable(`The encoder at ${host} serves another bundle: ${detail}`),
        isPassing: true,
      }
    case 'timed_out':
      return {
        error: new TandemError(
          'encoder_timeout',
          `The encoder at ${host} took too long: ${detail}`,
        ),
        isPassing: false,
      }
    default: {
      const what = code === '' ? `answered ${status}` : `answered ${status} ${code}: ${detail}`
      return {
        error: new TandemError('encoder_failed', `The encoder at ${host} ${what}`),
        isPassing: false,
      }
    }
  }
}

/** The error for an encoder that does not answer; another try may succeed. */
export function unavailable(sentence: string, cause?: unknown): TandemError {
  return new TandemError('encoder_unavailable', sentence, { cause, retryAfterS: 1 })
}

function problemIn(body: Buffer): { code: string; detail: string } {
  try {
    const { code, detail } = JSON.parse(body.toString()) as Record<string, unknown>
    if (typeof code === 'string' && typeof detail === 'string')
      return { code: code.slice(0, 60), detail: detail.slice(0, 500) }
  } catch {
    // Not our format, such as an error page of a proxy.
  }
  return { code: '', detail: '' }
}

function retryAfter(headers: IncomingHttpHeaders): { retryAfterS?: number } {
  const seconds = Number(headers['retry-after'] ?? Number.NaN)
  return seconds >= 0 && seconds <= 3600 ? { retryAfterS: seconds } : {}
}
