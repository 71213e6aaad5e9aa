/**
 * OpenTelemetry spans of each request and of its stages, as children of the client's span. Register
 * it only where a collector is configured.
 */
import plugin from 'fastify-plugin'
import type { FastifyRequest } from 'fastify'
import type { Timings } from '../../retrieval/retrieval.js'
import type { SpanSender } from '../otlp-spans.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Gets each stage when it ends: see Call. Undefined where no collector is configured. */
    onStage?: ((begun: number, timings: Timings) => void) | undefined
  }
}

interface Stage {
  begun: number
  timings: Timings
}

const STAGES = Symbol('stages')
type Staged = FastifyRequest & { [STAGES]?: Stage[] }

export const spans = plugin<{ sender: SpanSender }>(
  (app, { sender }, done) => {
    app.addHook('onRequest', (request: Staged, _reply, next) => {
      if (request.trace.isRecorded) {
        const stages: Stage[] = []
        request[STAGES] = stages
        request.onStage = (begun, timings) => void stages.push({ begun, timings })
      }
      next()
    })
    app.addHook('onResponse', (request: Staged, reply, next) => {
      const { [STAGES]: stages, trace, method } = request
      if (stages === undefined) return next()
      const route = request.is404 ? undefined : request.routeOptions.url
      const ended = performance.now()
      const { traceId, spanId } = trace
      const { statusCode } = reply
      sender.send({
        name: route === undefined ? method : `${method} ${route}`,
        traceId,
        spanId,
        parentId: trace.parentId,
        begun: ended - reply.elapsedTime,
        ended,
        attributes: {
          'http.request.method': method,
          'http.response.status_code': statusCode,
          ...(route === undefined ? {} : { 'http.route': route }),
        },
        failed: statusCode >= 500,
        isServer: true,
      })
      for (const stage of stages) sendStage(stage, traceId, spanId)
      next()
    })
    app.addHook('onClose', () => sender.close())
    done()

    /** The first timing is that of the stage; the others happened in it, one after the other. */
    function sendStage({ begun, timings }: Stage, traceId: string, parentId: string): void {
      const [[name, ms] = ['', 0], ...inside] = Object.entries(timings)
      const id = sender.send({ name, traceId, parentId, begun, ended: begun + ms })
      let at = begun
      for (const [part, took] of inside) {
        sender.send({ name: part, traceId, parentId: id, begun: at, ended: at + took })
        at += took
      }
    }
  },
  { name: 'spans', dependencies: ['tracing'] },
)
