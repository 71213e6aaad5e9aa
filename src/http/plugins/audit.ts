/**
 * A line of the log for every change of an item, and every backup and restore, that was asked for:
 * who, which item or backup, and what came of it. Never a key, never a payload. The lines are
 * written at any LOG_LEVEL but silent.
 */
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import type { ErrorCode } from '../../errors.js'

/**
 * What is asked for. A backup and a restore have a line when they begin and another when they end.
 */
export type AuditAction = 'add' | 'remove' | 'backup' | 'restore' | 'remove backup'

/** What came of it: done, or the code of the error. */
export type AuditOutcome = 'created' | 'replaced' | 'removed' | 'begun' | 'done' | ErrorCode

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * What a request to this route asks for; it is for the one item or backup that the address
     * names.
     */
    audited?: AuditAction
  }
  interface FastifyRequest {
    /** Why this request failed, once it has. */
    failure: ErrorCode | undefined
    /**
     * @param id - of the item, or name of the backup; null where the input did not get as far as
     * saying it
     */
    audit: (action: AuditAction, id: string | null, outcome: AuditOutcome) => void
  }
}

// Of an id that is none, whatever its length.
const LONGEST_ID = 256

export const audit = plugin((app, _options, done) => {
  const log =
    app.log.level === 'silent' ? app.log : app.log.child({ audit: true }, { level: 'info' })

  app.decorateRequest('failure', undefined)
  app.decorateRequest('audit', function (this: FastifyRequest, action, id, outcome) {
    log.info(
      {
        reqId: this.id,
        trace_id: this.trace.traceId,
        key: this.key?.name ?? null,
        address: this.ip,
        action,
        id: id?.slice(0, LONGEST_ID) ?? null,
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
})

/** The item or backup that the address names. */
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
