/** Failures of calls to Milvus, which reports them as gRPC codes or as a status in its reply. */
import { TandemError } from '../../errors.js'
import type { FailureKind } from '../collection.js'

export class EngineFailure extends Error {
  override readonly name = 'EngineFailure'
  readonly kind: FailureKind

  constructor(kind: FailureKind, message: string, cause?: unknown) {
    super(message, { cause })
    this.kind = kind
  }
}

/** gRPC codes; all others are `failed`. */
const GRPC_KINDS: Readonly<Record<number, FailureKind>> = {
  // Cancelled.
  1: 'unavailable',
  // Deadline exceeded.
  4: 'timeout',
  // Resource exhausted.
  8: 'unavailable',
  // Aborted.
  10: 'unavailable',
  // Internal: the connection dropped during the call.
  13: 'unavailable',
  // Unavailable.
  14: 'unavailable',
}

/** Milvus error codes; all others are `failed`, unless Milvus calls them retriable. */
const STATUS_KINDS: Readonly<Record<number, FailureKind>> = {
  // Unavailable.
  2: 'unavailable',
  // Too many requests.
  4: 'unavailable',
  // Rate limit exceeded.
  8: 'unavailable',
  // Collection not loaded.
  101: 'released',
}

export interface Status {
  error_code?: string | number
  code?: number
  reason?: string
  retriable?: boolean
}

/** @throws EngineFailure unless the status is success */
export function checkStatus(status: Status | undefined): void {
  if (status === undefined) throw new EngineFailure('failed', 'Milvus does not know this call')
  const { error_code: legacy = 'Success', code = 0, reason = '', retriable = false } = status
  if (code === 0 && (legacy === 'Success' || legacy === 0)) return
  const kind = STATUS_KINDS[code] ?? (retriable ? 'unavailable' : 'failed')
  throw new EngineFailure(kind, `Milvus answers ${legacy} (${code}): ${reason}`)
}

/** Converts an error of the SDK. */
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
  // The connection pool gave no free slot in time.
  if ((error as Error).name === 'TimeoutError')
    return new EngineFailure('timeout', 'Milvus is still busy with other calls', error)
  const kind = typeof code === 'number' ? GRPC_KINDS[code] : undefined
  return new EngineFailure(kind ?? 'failed', message ?? 'Milvus failed without a message', error)
}

/** The error for the client. The message of Milvus is its cause, which is only logged. */
export function problemOf(
  cause: EngineFailure,
  timeoutMs: number,
  retryAfterS: number,
): TandemError {
  switch (cause.kind) {
    case 'unavailable':
    case 'released':
      return new TandemError('engine_unavailable', {}, { cause, retryAfterS })
    case 'timeout':
      return new TandemError('engine_timeout', { ms: Math.ceil(timeoutMs) }, { cause, retryAfterS })
    case 'failed':
      return new TandemError('engine_failed', {}, { cause })
  }
}
