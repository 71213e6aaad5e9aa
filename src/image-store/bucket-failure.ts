/** What went wrong with a bucket, in words for the client. */
import { TandemError } from '../errors.js'

/** Seconds after which a server that was away may be back. */
const RETRY_AFTER_S = 2

/**
 * The error to throw for `error` of the SDK. It is not the new one's cause: it holds the request
 * with its signature, and causes are logged.
 */
export function bucketFailure(error: unknown, bucket: string): TandemError {
  const { name, code, $metadata, $response } = error as {
    name?: string
    code?: string
    $metadata?: { httpStatusCode?: number }
    $response?: { statusCode?: number }
  }
  const status = $metadata?.httpStatusCode ?? $response?.statusCode
  if (name === 'CredentialsProviderError') {
    const expected = 'expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role'
    return new TandemError(
      'image_store_failed',
      `There are no credentials for the bucket ${bucket}; ${expected}.`,
    )
  }
  if (status === undefined || status >= 500 || status === 429) {
    const said =
      status === undefined ? (code ?? name ?? 'no answer') : `${status} ${name ?? ''}`.trim()
    const sentence = `The bucket ${bucket} cannot be reached now (${said}).`
    return new TandemError('image_store_unavailable', sentence, { retryAfterS: RETRY_AFTER_S })
  }
  return new TandemError(
    'image_store_failed',
    `The bucket ${bucket} refused: ${status} ${name ?? ''}`.trim() + '.',
  )
}
