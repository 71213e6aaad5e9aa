/**
 * Sends spans to an OpenTelemetry collector. Loaded only where one is configured. The spans are
 * made from the times of a finished request, so a request does no work for them before its answer.
 */
import {
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Attributes,
  type HrTime,
} from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources'
import {
  BatchSpanProcessor,
  RandomIdGenerator,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-base'
import { packageInfo } from '../config.js'

/** A finished span; times are on the clock of `performance.now()`. */
export interface FinishedSpan {
  name: string
  traceId: string
  /** A new one by default. */
  spanId?: string
  parentId: string | undefined
  begun: number
  ended: number
  attributes?: Attributes
  failed?: boolean
  /** The span of a request, which another service may have asked for. */
  isServer?: boolean
}

export interface SpanSender {
  /** @returns the id of the span */
  send(span: FinishedSpan): string
  /** Sends what waits. Resolves also where the collector does not answer. */
  close(): Promise<void>
}

/** For each: spans beyond are dropped while the collector is away. */
const MAX_WAITING = 4096

/** @param endpoint - address of the collector, such as http://127.0.0.1:4318 */
export function openSpanSender(endpoint: string, serviceName: string): SpanSender {
  const exporter = new OTLPTraceExporter({ url: `${endpoint.replace(/\/$/, '')}/v1/traces` })
  const processor = new BatchSpanProcessor(exporter, { maxQueueSize: MAX_WAITING })
  const { version } = packageInfo
  const resource = defaultResource().merge(
    resourceFromAttributes({ 'service.name': serviceName, 'service.version': version }),
  )
  const ids = new RandomIdGenerator()
  const contextOf = (traceId: string, spanId: string) => ({
    traceId,
    spanId,
    traceFlags: TraceFlags.SAMPLED,
  })
  return {
    send: ({ traceId, parentId, begun, ended, ...span }) => {
      const context = contextOf(traceId, span.spanId ?? ids.generateSpanId())
      const finished: ReadableSpan = {
        name: span.name,
        kind: span.isServer === true ? SpanKind.SERVER : SpanKind.INTERNAL,
        spanContext: () => context,
        ...(parentId === undefined ? {} : { parentSpanContext: contextOf(traceId, parentId) }),
        startTime: timeOf(performance.timeOrigin + begun),
        endTime: timeOf(performance.timeOrigin + ended),
        duration: timeOf(ended - begun),
        status: { code: span.failed === true ? SpanStatusCode.ERROR : SpanStatusCode.UNSET },
        attributes: span.attributes ?? {},
        links: [],
        events: [],
        ended: true,
        resource,
        instrumentationScope: { name: 'tandem', version },
        droppedAttributesCount: 0,
        droppedEventsCount: 0,
        droppedLinksCount: 0,
      }
      processor.onEnd(finished)
      return context.spanId
    },
    close: () => processor.shutdown().catch(() => undefined),
  }
}

/** Milliseconds → seconds and nanoseconds. */
function timeOf(milliseconds: number): HrTime {
  const seconds = Math.floor(milliseconds / 1000)
  return [seconds, Math.round((milliseconds - seconds * 1000) * 1e6)]
}
