/**
 * Which errors an operation can answer with: what every request can meet, and what its route names
 * besides.
 */
import { errorTable, type ErrorCode } from '../../errors.js'
import { Problem } from '../schemas/fields.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * Codes of errors that this route answers with and that others with a body, or without one, do
     * not.
     */
    errors?: readonly ErrorCode[]
  }
}

const ANY: readonly ErrorCode[] = [
  'url_unreadable',
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
/** What a call of the service that encodes can meet, where models are not in the service itself. */
export const encoderErrors: readonly ErrorCode[] = [
  'encoder_failed',
  'encoder_unavailable',
  'encoder_timeout',
]
/** What any image, text or option in a request can be refused for. */
export const inputErrors: readonly ErrorCode[] = [
  'batch_too_large',
  'image_too_large',
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

/** What searching and reading items can meet, whoever keeps them. */
export const readErrors: readonly ErrorCode[] = [
  'index_unavailable',
  'engine_failed',
  'engine_unavailable',
  'engine_timeout',
]
/** What reading a stored image can meet besides. */
export const imageErrors: readonly ErrorCode[] = [
  'image_store_failed',
  'image_store_unavailable',
  'image_store_timeout',
]
/** What adding and removing items can meet. */
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

/** Status → its entry in the OpenAPI document, which names the codes that come with it. */
export function documentedErrors({
  method,
  config,
  keysNeeded,
}: Operation): Record<string, object> {
  const takesBody = [method].flat().some((one) => !['GET', 'HEAD'].includes(one))
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
    [...byStatus].map(([status, some]) => [
      status,
      {
        description: some.join(', '),
        content: { 'application/problem+json': { schema: Problem } },
      },
    ]),
  )
}
