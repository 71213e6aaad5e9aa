/**
 * Every error of the API: one table of code, status, title and sentence.
 *
 * `docs/errors.md` explains the same codes; a test compares the two.
 */

interface Entry {
  status: number
  /** The same for every occurrence (RFC 9457). */
  title: string
  /** The sentence, with a name in braces for each value; absent where the sentence varies. */
  detail?: string
}

export const errorTable = {
  body_missing: { status: 400, title: 'Missing body' },
  body_unreadable: { status: 400, title: 'Malformed body' },
  url_unreadable: {
    status: 400,
    title: 'Malformed URL',
    detail: '{place} has "{codes}", where a percent sign is not followed by a code of UTF-8.',
  },
  text_unreadable: {
    status: 400,
    title: 'Text is not UTF-8',
    detail: '{place} {what}; expected text in UTF-8.',
  },
  request_unreadable: {
    status: 400,
    title: 'Malformed HTTP request',
    detail: 'The bytes received are not a valid HTTP request.',
  },
  unauthorized: {
    status: 401,
    title: 'API key required',
    detail:
      'This service requires an API key (Authorization: Bearer … or X-API-Key: …), and {problem}.',
  },
  forbidden: {
    status: 403,
    title: 'API key lacks a scope',
    detail: 'This needs an API key with the scope {needed}; the key "{name}" has {scopes}.',
  },
  host_not_allowed: {
    status: 403,
    title: 'Host is not allowed',
    detail:
      'The Host header is {host}, which is not a name of this service; ALLOWED_HOSTS lists them.',
  },
  origin_not_allowed: {
    status: 403,
    title: 'Origin is not allowed',
    detail:
      'The request was sent by {origin}; only pages of this service and clients that are not browsers may send it.',
  },
  item_not_found: {
    status: 404,
    title: 'Item not found',
    detail: 'There is no item with the id "{id}".',
  },
  backup_not_found: {
    status: 404,
    title: 'Backup not found',
    detail: 'There is no backup "{name}".',
  },
  route_not_found: {
    status: 404,
    title: 'Route not found',
    detail: 'There is no route {path}; see /docs.',
  },
  model_not_found: {
    status: 404,
    title: 'Model is not served',
    detail:
      'The model is "{named}"; this service serves "{serving}" alone, and embeddings of two models cannot be compared.',
  },
  reembedding_not_found: {
    status: 404,
    title: 'No bundle is being prepared',
    detail: 'No bundle is being prepared.',
  },
  method_not_allowed: {
    status: 405,
    title: 'Method not allowed',
    detail: '{path} takes {allowed}, not {method}.',
  },
  request_too_slow: { status: 408, title: 'Request arrived too slowly' },
  backup_exists: {
    status: 409,
    title: 'Backup exists',
    detail: 'A backup "{name}" exists already.',
  },
  backup_busy: { status: 409, title: 'Another backup or restore is running' },
  bundle_mismatch: {
    status: 409,
    title: 'Bundle mismatch',
    detail: 'This service encodes with the bundle {serving}; the call names {named}.',
  },
  reembedding_conflict: { status: 409, title: 'Bundle cannot be prepared' },
  reembedding_not_ready: { status: 409, title: 'Prepared bundle is not ready' },
  precondition_failed: {
    status: 412,
    title: 'Precondition failed',
    detail: 'The item "{id}" is not as If-Match or If-None-Match says; nothing was stored.',
  },
  body_too_large: { status: 413, title: 'Body is too large' },
  batch_too_large: { status: 413, title: 'Too many inputs in one request' },
  image_too_large: {
    status: 413,
    title: 'Image has too many pixels',
    detail:
      'The image has {width} × {height} pixels; expected at most {maxPixels} pixels, and {maxSide} on a side.',
  },
  media_type_unsupported: { status: 415, title: 'Unsupported Content-Type' },
  image_type_unsupported: { status: 415, title: 'Unsupported image type' },
  invalid_request: { status: 422, title: 'Value is missing, unknown or out of range' },
  options_conflict: { status: 422, title: 'Options contradict each other' },
  documents_mixed: {
    status: 422,
    title: 'Documents of two kinds',
    detail:
      'documents[{text}] is a text and documents[{image}] an image; expected texts only, or images and ids only: scores of the two kinds cannot be compared.',
  },
  text_too_long: {
    status: 422,
    title: 'Text is too long',
    detail: '{name} has {length} characters; expected at most {most}.',
  },
  payload_invalid: { status: 422, title: 'Invalid payload' },
  backup_unusable: { status: 422, title: 'Backup cannot be used' },
  bundle_unusable: { status: 422, title: 'Bundle cannot be used' },
  image_unreadable: { status: 422, title: 'Image cannot be decoded' },
  image_too_costly: { status: 422, title: 'Image costs too much to decode' },
  image_url_not_allowed: { status: 422, title: 'Image URL is not allowed' },
  image_not_fetched: {
    status: 424,
    title: 'Image could not be fetched',
    detail: '{name} could not be fetched from {host}: {reason}.',
  },
  rate_limited: {
    status: 429,
    title: 'Too many requests from one client',
    detail:
      'More than {perSecond} requests a second, or {burst} at once, came from this {client}; try again after the time in Retry-After.',
  },
  headers_too_large: {
    status: 431,
    title: 'URL and headers are too large',
    detail: 'The URL and headers are larger than 16 KiB; send long texts with POST /search.',
  },
  request_cancelled: {
    status: 499,
    title: 'Client closed the connection',
    detail: 'The request was cancelled.',
  },
  internal_error: {
    status: 500,
    title: 'Internal error',
    detail: 'Something went wrong in the service; its log has the details.',
  },
  item_damaged: {
    status: 500,
    title: 'Stored item is damaged',
    detail:
      'The stored image of "{id}" is not the one that was stored; add the item again, or restore a backup.',
  },
  not_supported: { status: 501, title: 'Not supported by this service' },
  encoder_failed: { status: 502, title: 'Encoder failed' },
  engine_failed: {
    status: 502,
    title: 'Vector database failed',
    detail: 'The vector database refused the call; the log of the service has its message.',
  },
  image_store_failed: { status: 502, title: 'Image store failed' },
  overloaded: { status: 503, title: 'Service is busy' },
  model_unavailable: { status: 503, title: 'Model is not available' },
  decoder_unavailable: { status: 503, title: 'Image decoder is not available' },
  index_unavailable: { status: 503, title: 'Vector index is not available' },
  encoder_unavailable: { status: 503, title: 'Encoder is not available' },
  engine_unavailable: {
    status: 503,
    title: 'Vector database is not available',
    detail: 'The vector database cannot be reached; try again in a moment.',
  },
  image_store_unavailable: { status: 503, title: 'Image store is not available' },
  not_ready: { status: 503, title: 'Service is not ready' },
  timed_out: { status: 503, title: 'Request took too long' },
  storage_read_only: {
    status: 503,
    title: 'Disk cannot be written to',
    detail: 'The disk that holds {what} cannot be written to; nothing was stored.',
  },
  encoder_timeout: { status: 504, title: 'Encoder took too long' },
  engine_timeout: {
    status: 504,
    title: 'Vector database took too long',
    detail: 'The vector database did not answer within {ms} ms.',
  },
  image_store_timeout: {
    status: 504,
    title: 'Image store took too long',
    detail: 'The image store took longer than {ms} ms.',
  },
  storage_full: { status: 507, title: 'Disk is full' },
} as const satisfies Record<string, Entry>

export type ErrorCode = keyof typeof errorTable

/** What a refused request would have exceeded, for the metrics. */
export type RefusalReason =
  | 'requests'
  | 'bulk_requests'
  | 'client_share'
  | 'held_bytes'
  | 'model_queue'
  | 'decoder_queue'
  | 'write_queue'
  | 'deadline'

export interface TandemErrorOptions {
  cause?: unknown
  reason?: RefusalReason | undefined
  /** Seconds after which another try makes sense; sent as Retry-After. */
  retryAfterS?: number | undefined
}

type Names<Text> = Text extends `${string}{${infer Name}}${infer Rest}` ? Name | Names<Rest> : never
type Values<Text> = Readonly<Record<Names<Text>, string | number>>
/** What follows the code: the values of its template, or its sentence where that varies. */
type Rest<Code extends ErrorCode> = Code extends ErrorCode
  ? (typeof errorTable)[Code] extends { detail: infer Text }
    ? [Names<Text>] extends [never]
      ? [values?: Record<string, never>, options?: TandemErrorOptions]
      : [values: Values<Text>, options?: TandemErrorOptions]
    : [sentence: string, options?: TandemErrorOptions]
  : never

/**
 * An error for a client. `message` is the sentence for this occurrence: it names what was given and
 * what is expected. Any other exception leaves as `internal_error` without its message.
 */
export class TandemError<Code extends ErrorCode = ErrorCode> extends Error {
  override readonly name = 'TandemError'
  readonly code: ErrorCode
  readonly retryAfterS: number | undefined
  readonly reason: RefusalReason | undefined

  constructor(code: Code, ...rest: Rest<Code>) {
    const [detail, options] = rest as [string | Values<string> | undefined, TandemErrorOptions?]
    const { detail: template = '' }: Entry = errorTable[code]
    super(
      typeof detail === 'string' ? detail : filled(template, detail),
      options?.cause === undefined ? undefined : { cause: options.cause },
    )
    this.code = code
    this.retryAfterS = options?.retryAfterS
    this.reason = options?.reason
  }

  get status(): number {
    return errorTable[this.code].status
  }

  /** The same error about one of several values, such as "inputs[3]". */
  about(subject: string): TandemError {
    const { code, message, retryAfterS, reason } = this
    return new TandemError(code, `${subject}: ${message}`, { cause: this, retryAfterS, reason })
  }
}

function filled(template: string, values: Readonly<Record<string, string | number>> = {}): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name]))
}

/** The start of a text for a message. A pair of surrogates is never cut. */
export function clip(text: string, most: number): string {
  return text.length <= most ? text : text.slice(0, most).replace(/[\ud800-\udbff]$/, '')
}
