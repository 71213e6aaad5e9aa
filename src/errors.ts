/**
 * Every error that a client can meet: one table of code, status and title.
 *
 * `docs/errors.md` explains the same codes; a test holds the two together.
 */

/** Code → HTTP status and a title that is the same for every occurrence (RFC 9457). */
export const errorTable = {
  body_missing: { status: 400, title: 'The request has no body' },
  body_unreadable: { status: 400, title: 'The body cannot be read' },
  url_unreadable: { status: 400, title: 'The address cannot be read' },
  request_unreadable: { status: 400, title: 'The request is not HTTP as it should be' },
  unauthorized: { status: 401, title: 'A valid API key is needed' },
  forbidden: { status: 403, title: 'The API key may not do this' },
  host_not_allowed: { status: 403, title: 'The service does not go by this name' },
  origin_not_allowed: { status: 403, title: 'A page of another site may not ask this' },
  item_not_found: { status: 404, title: 'There is no such item' },
  backup_not_found: { status: 404, title: 'There is no such backup' },
  route_not_found: { status: 404, title: 'There is nothing at this address' },
  reembedding_not_found: { status: 404, title: 'No bundle is being prepared' },
  method_not_allowed: { status: 405, title: 'The address does not take this method' },
  request_too_slow: { status: 408, title: 'The request did not arrive in time' },
  backup_exists: { status: 409, title: 'There is a backup of this name already' },
  backup_busy: { status: 409, title: 'Another backup or restore is under way' },
  bundle_mismatch: { status: 409, title: 'Another bundle serves' },
  reembedding_conflict: { status: 409, title: 'The bundle cannot be prepared' },
  reembedding_not_ready: { status: 409, title: 'The prepared bundle is not ready to serve' },
  body_too_large: { status: 413, title: 'The body is too large' },
  batch_too_large: { status: 413, title: 'Too many inputs in one request' },
  image_too_large: { status: 413, title: 'The image has too many pixels' },
  media_type_unsupported: {
    status: 415,
    title: 'The Content-Type is not one that the address takes',
  },
  image_type_unsupported: { status: 415, title: 'The image is of a type that is not read' },
  invalid_request: { status: 422, title: 'A value is missing, unknown or out of range' },
  options_conflict: { status: 422, title: 'Two options contradict each other' },
  text_too_long: { status: 422, title: 'The text is too long' },
  payload_invalid: { status: 422, title: 'The payload cannot be stored' },
  backup_unusable: { status: 422, title: 'The backup cannot be used' },
  bundle_unusable: { status: 422, title: 'The bundle cannot be used' },
  image_unreadable: { status: 422, title: 'The image cannot be decoded' },
  image_url_not_allowed: { status: 422, title: 'The address of the image may not be asked' },
  image_not_fetched: { status: 424, title: 'The image could not be fetched from its address' },
  rate_limited: { status: 429, title: 'Too many requests from one client' },
  headers_too_large: { status: 431, title: 'The address and headers are too long' },
  request_cancelled: { status: 499, title: 'The client closed the connection' },
  internal_error: { status: 500, title: 'The service failed' },
  not_supported: { status: 501, title: 'This service cannot do it' },
  encoder_failed: { status: 502, title: 'The encoder failed' },
  engine_failed: { status: 502, title: 'The vector database could not do it' },
  image_store_failed: { status: 502, title: 'The image store failed' },
  overloaded: { status: 503, title: 'The service is busy' },
  model_unavailable: { status: 503, title: 'The model is not available' },
  decoder_unavailable: { status: 503, title: 'Images cannot be decoded now' },
  index_unavailable: { status: 503, title: 'The vector index is not available' },
  encoder_unavailable: { status: 503, title: 'The encoder is not available' },
  engine_unavailable: { status: 503, title: 'The vector database is not available' },
  image_store_unavailable: { status: 503, title: 'The image store is not available' },
  not_ready: { status: 503, title: 'The service is not ready' },
  timed_out: { status: 503, title: 'The request took too long' },
  storage_read_only: { status: 503, title: 'The disk cannot be written to' },
  encoder_timeout: { status: 504, title: 'The encoder took too long' },
  engine_timeout: { status: 504, title: 'The vector database took too long' },
  image_store_timeout: { status: 504, title: 'The image store took too long' },
  storage_full: { status: 507, title: 'No space is left on the disk' },
} as const satisfies Record<string, { status: number; title: string }>

export type ErrorCode = keyof typeof errorTable

/**
 * An error that a client is told about: `message` is the sentence for this occurrence, naming what
 * was given and what is expected. Any other exception leaves as `internal_error` without its
 * message.
 */
export class TandemError extends Error {
  override readonly name = 'TandemError'
  readonly code: ErrorCode
  /** Seconds after which trying again makes sense; sent as Retry-After. */
  readonly retryAfterS: number | undefined

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; retryAfterS?: number } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.retryAfterS = options.retryAfterS
  }

  get status(): number {
    return errorTable[this.code].status
  }
}
