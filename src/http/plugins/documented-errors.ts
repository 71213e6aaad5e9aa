/** The errors that each operation documents: those of every request, and those of its route. */
import { errorTable, type ErrorCode } from '../../errors.js'
import { Problem } from '../schemas/fields.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Codes of errors of this route, beyond those that all routes have. */
    errors?: readonly ErrorCode[]
  }
}

const ANY: readonly ErrorCode[] = [
  'url_unreadable',
  'text_unreadable',
  'request_unreadable',
  'request_too_slow',
  'host_not_allowed',
  'origin_not_allowed',
  'invalid_request',
  'headers_too_large',
  'internal_error',
]
const WITH_BODY: readonly ErrorCode[] = [
  'body_missing',
  'body_unreadable',
  'body_too_large',
  'media_type_unsupported',
]
const LIMITED: readonly ErrorCode[] = ['rate_limited', 'overloaded', 'not_ready', 'timed_out']
const WITH_KEYS: readonly ErrorCode[] = ['unauthorized', 'forbidden']
/** Errors of calls to the encoding service (TANDEM_ROLE=search). */
export const encoderErrors: readonly ErrorCode[] = [
  'encoder_failed',
  'encoder_unavailable',
  'encoder_timeout',
]
/** Refusals of images, texts and options in requests. */
export const inputErrors: readonly ErrorCode[] = [
  'batch_too_large',
  'image_too_large',
  'image_too_costly',
  'image_type_unsupported',
  'image_unreadable',
  'image_url_not_allowed',
  'image_not_fetched',
  'text_too_long',
  'options_conflict',
  'model_unavailable',
  'decoder_unavailable',
  ...encoderErrors,
]

/** Errors of searches and reads, of the embedded index and of an engine. */
export const readErrors: readonly ErrorCode[] = [
  'index_unavailable',
  'engine_failed',
  'engine_unavailable',
  'engine_timeout',
]
/** More errors of reading a stored image. */
export const imageErrors: readonly ErrorCode[] = [
  'image_store_failed',
  'image_store_unavailable',
  'image_store_timeout',
]
/** Errors of adding and removing items. */
export const writeErrors: readonly ErrorCode[] = [
  ...readErrors,
  ...imageErrors,
  'storage_full',
  'storage_read_only',
]

interface Operation {
  method: string | readonly string[]
  config: { open?: boolean; errors?: readonly ErrorCode[] } | undefined
  keysNeeded: boolean
}

/** Status → its response in the OpenAPI document, which lists the codes. */
export function documentedErrors({
  method,
  config,
  keysNeeded,
}: Operation): Record<string, object> {
  const takesBody = [method].flat().some((name) => !['GET', 'HEAD'].includes(name))
  const isOpen = config?.open === true
  const codes = new Set([
    ...ANY,
    ...(takesBody ? WITH_BODY : []),
    ...(isOpen ? [] : LIMITED),
    ...(keysNeeded && !isOpen ? WITH_KEYS : []),
    ...(config?.errors ?? []),
  ])
  const byStatus = new Map<number, ErrorCode[]>()
  for (const code of codes) {
    const { status } = errorTable[code]
    byStatus.set(status, [...(byStatus.get(status) ?? []), code])
  }
  return Object.fromEntries(
    [...byStatus].map(([status, names]) => [
      status,
      {
        description: names.join(', '),
        content: { 'application/problem+json': { schema: Problem } },
      },
    ]),
  )
}
