/**
 * W3C trace context: what a request belongs to beyond this service. A client's `traceparent` and
 * `tracestate` are taken on, or a trace is begun; log lines carry its id, the answer names it, and
 * calls to other services pass it on.
 */
import { randomFillSync } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import plugin from 'fastify-plugin'
import type { Call } from '../../retrieval/retrieval.js'
import { RequestLog } from './request-log.js'

/** The trace of one request, with this service's own part in it as the latest. */
export interface Trace extends NonNullable<Call['trace']> {
  /** 32 hexadecimal digits. */
  readonly traceId: string
}

declare module 'fastify' {
  interface FastifyRequest {
    trace: Trace
  }
}

/** A later version may carry more behind a hyphen; ff is none, and so are ids of zeros. */
const PARENT =
  /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?$/
/** A list member is `key=value`, all of it printable; beyond this length a list may be left out. */
const STATE = /^[\x20-\x7e\t]{1,512}$/

/** Taken from the system for some hundred ids at a time: each time is a call of the kernel. */
const pool = Buffer.alloc(4096)
let used = pool.length

function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool)
    used = 0
  }
  used += bytes
  return pool.toString('hex', used - bytes, used)
}

/**
 * The trace that the headers name, or a new one, which is not marked as recorded: nothing is
 * recorded here.
 */
export function traceOf(headers: IncomingHttpHeaders): Trace {
  const given = headers['traceparent']
  const [, version, named, flags = '00', more] =
    (typeof given === 'string' ? PARENT.exec(given) : null) ?? []
  const known = named !== undefined && (version !== '00' || more === undefined)
  const traceId = known ? named : randomHex(16)
  // Of the flags, a version that is not known may mean something else by all but the first bit.
  const marked = known && (Number.parseInt(flags, 16) & 1) === 1 ? '01' : '00'
  const traceparent = `00-${traceId}-${randomHex(8)}-${marked}`
  const state = headers['tracestate']
  const tracestate = known && typeof state === 'string' && STATE.test(state) ? state : undefined
  return { traceId, traceparent, tracestate }
}

/** A request as it came, which logs may know before any other form of it. */
type Traced = IncomingMessage & { [TRACE]?: Trace }
const TRACE = Symbol('trace')

function traceFor(raw: Traced): Trace {
  raw[TRACE] ??= traceOf(raw.headers)
  return raw[TRACE]
}

/** Register it before whatever logs a request. */
export const tracing = plugin((app, _options, done) => {
  app.setChildLoggerFactory(
    (logger, bindings, options, raw: Traced) =>
      new RequestLog(() => logger.child({ ...bindings, trace_id: traceFor(raw).traceId }, options)),
  )
  app.decorateRequest('trace', {
    getter() {
      return traceFor(this.raw)
    },
  })
  app.addHook('onRequest', (request, reply, next) => {
    reply.header('traceresponse', request.trace.traceparent)
    next()
  })
  done()
})
