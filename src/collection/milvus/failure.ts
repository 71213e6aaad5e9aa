/**
 * How a call of Milvus fails, whichever way it says so: as a status of gRPC or as one in its
 * answer.
 */
import { TandemError } from '../../errors.js'

/**
 * unavailable: not reached, or cut off, or told to come again: may be tried again · timeout: no
 * answer in time · released: the collection has to be loaded first · failed: refused, or an answer
 * that makes no sense
 */
export type FailureKind = 'unavailable' | 'timeout' | 'released' | 'failed'

export class EngineFailure extends Error {
  override readonly name = 'EngineFailure'
  readonly kind: FailureKind

  constructor(kind: FailureKind, message: string, cause?: unknown) {
    super(message, { cause })
    this.kind = kind
  }
}

const GRPC_KINDS: Readonly<Record<number, FailureKind>> = {
  // Cancelled, resource exhausted, aborted, internal (a connection that drops during a call) and
  // unavailable.
  1: 'unavailable',
  4: 'timeout',
  8: 'unavailable',
  10: 'unavailable',
  13: 'unavailable',
  14: 'unavailable',
}

/**
 * Of Milvus: unavailable, too many requests, over the rate; and that the collection is not loaded.
 */
const STATUS_KINDS: Readonly<Record<number, FailureKind>> = {
  2: 'unavailable',
  4: 'unavailable',
  8: 'unavailable',
  101: 'released',
}

export interface Status {
  error_code?: string | number
  code?: number
  reason?: string
  retriable?: boolean
}

/** @throws EngineFailure unless the status is that of success */
export function checkStatus(status: Status | undefined): void {
  if (status === undefined) throw new EngineFailure('failed', 'Milvus does not know this call')
  const { error_code: legacy = 'Success', code = 0, reason = '', retriable = false } = status
  if (code === 0 && (legacy === 'Success' || legacy === 0)) return
  const kind = STATUS_KINDS[code] ?? (retriable ? 'unavailable' : 'failed')
  throw new EngineFailure(kind, `Milvus answers ${legacy} (${code}): ${reason}`)
}

/** What the SDK throws, as a failure. */
export function failureOf(error: unknown): EngineFailure {
  if (error instanceof EngineFailure) return error
  const { code, message, status } = error as { code?: unknown; message?: string; status?: Status }
  if (status !== undefined) {
    try {
      checkStatus(status)
    } catch (failure) {
      return failure as EngineFailure
    }
  }
  // What waits for a connection of the pool too long.
  if ((error as Error).name === 'TimeoutError')
    return new EngineFailure('timeout', 'Milvus is still at other calls', error)
  const kind = typeof code === 'number' ? GRPC_KINDS[code] : undefined
  return new EngineFailure(kind ?? 'failed', message ?? 'Milvus failed without a word', error)
}

/** As a client may see it: the sentences of Milvus are for the log, where the cause goes. */
export function problemOf(
  failure: EngineFailure,
  timeoutMs: number,
  retryAfterS: number,
): TandemError {
  const options = { cause: failure, retryAfterS }
  switch (failure.kind) {
    case 'unavailable':
    case 'released':
      return new TandemError(
        'engine_unavailable',
        'The vector database cannot be reached; try again in a moment.',
        options,
      )
    case 'timeout':
      return new TandemError(
        'engine_timeout',
        `The vector database did not answer within ${Math.ceil(timeoutMs)} ms.`,
        options,
      )
    case 'failed':
      return new TandemError(
        'engine_failed',
        'The vector database could not do this; the log of the service has its words.',
        {
          cause: failure,
        },
      )
  }
}
