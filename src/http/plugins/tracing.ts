/**
 * W3C trace context. Continues the trace of a client's `traceparent` and `tracestate`, or begins
 * one. Log lines have its id, the reply names it, and calls to other services pass it on.
 */
import { randomFillSync } from 'node:crypto'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import plugin from 'fastify-plugin'
import type { Call } from '../../retrieval/retrieval.js'

/** The trace of one request, with the span of this service as the parent of further calls. */
export interface Trace extends NonNullable<Call['trace']> {
  /** 32 hexadecimal digits. */
  readonly traceId: string
  /** Of this service; 16 hexadecimal digits. */
  readonly spanId: string
  /** The span of the client; undefined for a new trace. */
  readonly parentId: string | undefined
  /** Whether the client records the trace, or this service does where it is new. */
  readonly isRecorded: boolean
}

declare module 'fastify' {
  interface FastifyRequest {
    trace: Trace
  }
}

/** A later version may add fields after a hyphen. Version ff and ids of zeros are invalid. */
const PARENT =
  /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
/** List members are printable `key=value`; a longer list may be dropped. */
const STATE = /^[\x20-\x7e\t]{1,512}$/

/** Random bytes for some hundred ids: filling it is a system call. */
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
 * The trace in the headers, or a new one.
 *
 * @param records - whether this service records new traces, which are marked so
 */
export function traceOf(headers: IncomingHttpHeaders, records = false): Trace {
  const header = headers['traceparent']
  const [, version, named, parentId, flags = '00', more] =
    (typeof header === 'string' ? PARENT.exec(header) : null) ?? []
  const known = named !== undefined && (version !== '00' || more === undefined)
  const traceId = known ? named : randomHex(16)
  // Unknown versions may redefine all flags but the first bit.
  const isRecorded = known ? (Number.parseInt(flags, 16) & 1) === 1 : records
  const spanId = randomHex(8)
  const traceparent = `00-${traceId}-${spanId}-${isRecorded ? '01' : '00'}`
  const state = headers['tracestate']
  const tracestate = known && typeof state === 'string' && STATE.test(state) ? state : undefined
  const parent = known ? parentId : undefined
  return { traceId, spanId, parentId: parent, isRecorded, traceparent, tracestate }
}

/** Node's request: the log needs the trace before Fastify's request exists. */
type Traced = IncomingMessage & { [TRACE]?: Trace }
const TRACE = Symbol('trace')

function traceFor(raw: Traced, records: boolean): Trace {
  raw[TRACE] ??= traceOf(raw.headers, records)
  return raw[TRACE]
}

/** Register it before any plugin that logs a request. */
export const tracing = plugin<{ records: boolean }>(
  (app, { records }, done) => {
    app.setChildLoggerFactory((logger, bindings, options, raw: Traced) =>
      logger.child({ ...bindings, trace_id: traceFor(raw, records).traceId }, options),
    )
    app.decorateRequest('trace', {
      getter() {
        return traceFor(this.raw, records)
      },
    })
    app.addHook('onRequest', (request, reply, next) => {
      reply.header('traceresponse', request.trace.traceparent)
      next()
    })
    done()
  },
  { name: 'tracing' },
)
