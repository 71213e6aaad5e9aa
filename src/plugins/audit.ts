/**
 * A line of the log for every change of an item that was asked for: who, which item, and what came of it. Never a key,
 * never a payload. The lines are written at any LOG_LEVEL but silent.
 */
import type { FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import type { ErrorCode } from '../errors.js'

/** What came of it: done, or the code of the error. */
export type AuditOutcome = 'created' | 'replaced' | 'removed' | ErrorCode

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What a request to this route asks for; it is for the one item that the address names. */
    audited?: 'add' | 'remove'
  }
  interface FastifyRequest {
    /** Why this request failed, once it has. */
    failure: ErrorCode | undefined
    /** @param id - null where the input did not get as far as saying it */
    audit: (action: 'add' | 'remove', id: string | null, outcome: AuditOutcome) => void
  }
}

// Of an id that is none, whatever its length.
const LONGEST_ID = 256

export const audit = plugin((app, _options, done) => {
  const log = app.log.level === 'silent' ? app.log : app.log.child({ audit: true }, { level: 'info' })

  app.decorateRequest('failure', undefined)
  app.decorateRequest('audit', function (this: FastifyRequest, action, id, outcome) {
    log.info(
      { reqId: this.id, key: this.key?.name ?? null, address: this.ip, action, id: id?.slice(0, LONGEST_ID) ?? null, outcome },
      `${action}: ${outcome}`,
    )
  })
  app.addHook('onResponse', (request, reply, next) => {
    const { audited } = request.routeOptions.config
    if (audited !== undefined) {
      const { id } = request.params as { id: string }
      request.audit(audited, id, request.failure ?? doneAs(audited, reply.statusCode))
    }
    next()
  })
  done()
})

function doneAs(action: 'add' | 'remove', status: number): AuditOutcome {
  if (action === 'remove') return 'removed'
  return status === 201 ? 'created' : 'replaced'
}
