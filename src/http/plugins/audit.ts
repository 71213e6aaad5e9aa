/**
 * Logs each request to change an item, and each backup and restore: the client, the item or backup,
 * and the outcome. Lines hold no key and no payload.
 */
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { clip, type ErrorCode, type RefusalReason } from '../../errors.js'

/** A backup and a restore have one line when they begin and another when they end. */
export type AuditAction = 'add' | 'remove' | 'backup' | 'restore' | 'remove backup'

/** The result, or the code of the error. */
export type AuditOutcome = 'created' | 'replaced' | 'removed' | 'begun' | 'done' | ErrorCode

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What this route does to the item or backup in its URL. */
    audited?: AuditAction
  }
  interface FastifyRequest {
    /** The code of the error that the request was answered with. */
    failure: ErrorCode | undefined
    /** Its reason, if it refuses the request. */
    failureReason: RefusalReason | undefined
    /** @param id - of the item, or the name of the backup; null if the input has none */
    audit: (action: AuditAction, id: string | null, outcome: AuditOutcome) => void
  }
}

// An invalid id can have any length.
const LONGEST_ID = 256

export interface AuditOptions {
  log: Pick<FastifyBaseLogger, 'info'>
}

export const audit = plugin<AuditOptions>(
  (app, { log }, done) => {
    app.decorateRequest('failure', undefined)
    app.decorateRequest('failureReason', undefined)
    app.decorateRequest('audit', function (this: FastifyRequest, action, id, outcome) {
      log.info(
        {
          reqId: this.id,
          trace_id: this.trace.traceId,
          key: this.key?.name ?? null,
          address: this.ip,
          action,
          id: id === null ? null : clip(id, LONGEST_ID),
          outcome,
        },
        `${action}: ${outcome}`,
      )
    })
    app.addHook('onResponse', (request, reply, next) => {
      const { audited } = request.routeOptions.config
      if (audited !== undefined) {
        request.audit(
          audited,
          subjectOf(request),
          request.failure ?? doneAs(audited, reply.statusCode),
        )
      }
      next()
    })
    done()
  },
  { name: 'audit', dependencies: ['tracing'] },
)

/** The item or backup in the URL. */
function subjectOf({ params, query }: FastifyRequest): string | null {
  const { id, name } = {
    ...(query as { name?: unknown }),
    ...(params as { id?: string; name?: string }),
  }
  const subject = id ?? name
  return typeof subject === 'string' ? subject : null
}

function doneAs(action: AuditAction, status: number): AuditOutcome {
  if (action === 'remove' || action === 'remove backup') return 'removed'
  if (action !== 'add') return 'begun'
  return status === 201 ? 'created' : 'replaced'
}
