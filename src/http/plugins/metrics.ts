/**
 * Prometheus metrics at /metrics, and the stage timings of a reply as a Server-Timing header. The
 * values of labels are bounded.
 */
import plugin from 'fastify-plugin'
import { Type } from 'typebox'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Retrieval, Timings } from '../../retrieval/retrieval.js'
import type { WorkerStatus } from '../../worker/worker-process.js'
import {
  batchSizes,
  diskMetrics,
  workerMemory,
  type DiskOptions,
} from '../metrics/resource-metrics.js'
import { engineMetrics } from '../metrics/engine-metrics.js'
import { REFUSALS } from './problems.js'

declare module 'fastify' {
  interface FastifyReply {
    /** Counts the stage timings, sets them as Server-Timing header, and returns them. */
    timed: (timings: Timings) => Timings
  }
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
/** Fewer, because each is a series for every route. */
const REQUEST_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5]
const COLLECTION_SECONDS = [0.001, 0.01, 0.1]
/** Of the runtime: a series for each space of its heap, and for each kind of handle and request. */
const LEFT_OUT = [
  'nodejs_heap_space_size_total_bytes',
  'nodejs_heap_space_size_used_bytes',
  'nodejs_heap_space_size_available_bytes',
  'nodejs_active_handles',
  'nodejs_active_requests',
  'nodejs_active_resources',
]

/** Statuses of requests that may succeed later. */
const REJECTED: readonly number[] = [429, 503, 507]

const METRICS_SCHEMA = {
  tags: ['health'],
  operationId: 'getMetrics',
  summary: 'Metrics in the text format of Prometheus',
  response: {
    200: { description: 'The metrics', content: { 'text/plain': { schema: Type.String() } } },
  },
}

export interface MetricsOptions {
  retrieval: Retrieval
  /** Null where an external engine keeps the items. */
  disk: DiskOptions | null
}

export const metrics = plugin<MetricsOptions>(
  (app, { retrieval, disk }, done) => {
    const registry = new Registry()
    const registers = [registry]
    collectDefaultMetrics({ register: registry, gcDurationBuckets: COLLECTION_SECONDS })
    for (const name of LEFT_OUT) registry.removeSingleMetric(name)
    const stopEventLoopTimer = measureEventLoopDelay(registry)

    const requests = new Counter({
      name: 'tandem_http_requests_total',
      help: 'Requests answered',
      labelNames: ['method', 'route', 'status'],
      registers,
    })
    const durations = new Histogram({
      name: 'tandem_http_request_duration_seconds',
      help: 'Time from the first byte of a request to the end of its reply, on routes with a limit of requests',
      labelNames: ['route'],
      buckets: REQUEST_SECONDS,
      registers,
    })
    const stages = new Histogram({
      name: 'tandem_stage_duration_seconds',
      help: 'Time that requests spent in a stage',
      labelNames: ['stage'],
      buckets: SECONDS,
      registers,
    })
    const rejected = new Counter({
      name: 'tandem_http_requests_rejected_total',
      help: 'Requests answered with 429, 503 or 507, by error code and what they would have exceeded',
      labelNames: ['code', 'reason'],
      registers,
    })
    const refusals = new Histogram({
      name: 'tandem_refusal_duration_seconds',
      help: 'Time until a request was refused as overloaded, rate_limited or not_ready',
      buckets: SECONDS,
      registers,
    })
    gauge('tandem_items', 'Items stored', () => retrieval.stats().items)
    gauge(
      'tandem_model_queue_depth',
      'Inputs that wait for the model',
      () => retrieval.stats().queueDepth,
    )
    gauge(
      'tandem_model_in_flight',
      'Inputs that the model works on',
      () => retrieval.stats().inFlight,
    )
    new Counter({
      name: 'tandem_worker_restarts_total',
      help: 'Processes started again after they died',
      labelNames: ['worker'],
      registers,
      collect() {
        this.reset()
        for (const { name, restarts } of allWorkers()) this.inc({ worker: name }, restarts)
      },
    })
    workerMemory(registry, allWorkers)
    batchSizes(registry, retrieval)
    if (disk !== null) diskMetrics(registry, disk)
    const { maintenance } = retrieval
    if (maintenance !== null) {
      const lag = (): number => maintenance.reembedder.status().reembedding?.lag ?? 0
      new Gauge({
        name: 'tandem_ann_recall',
        help: 'Share of the exact nearest items that searches of the graph find, by those verified last',
        registers,
        collect() {
          this.reset()
          if (maintenance.annRecall === null) this.remove()
          else this.set(maintenance.annRecall)
        },
      })
      gauge('tandem_reembedding_lag', 'Items that the prepared bundle still has to embed', lag)
    }
    if (retrieval.engine !== null) engineMetrics(registry, retrieval)
    new Gauge({
      name: 'tandem_model_info',
      help: 'The bundle that serves',
      labelNames: ['bundle', 'version', 'fingerprint'],
      registers,
      collect() {
        const { name: bundle, version, fingerprint } = retrieval.model
        this.reset()
        this.set({ bundle, version, fingerprint }, 1)
      },
    })

    function allWorkers(): readonly WorkerStatus[] {
      const reembedding = retrieval.maintenance?.reembedder.workers ?? []
      const named = reembedding.map((status) => ({ ...status, name: `reembedding-${status.name}` }))
      return [...retrieval.workers, ...named]
    }

    function gauge(name: string, help: string, read: () => number): void {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(read())
        },
      })
    }

    app.decorateReply('timed', function (timings: Timings): Timings {
      for (const [stage, ms] of Object.entries(timings)) stages.observe({ stage }, ms / 1000)
      this.header(
        'server-timing',
        Object.entries(timings)
          .map(([stage, ms]) => `${stage};dur=${ms}`)
          .join(', '),
      )
      return timings
    })
    app.addHook('onResponse', (request, reply, next) => {
      const route = request.is404 ? 'unmatched' : (request.routeOptions.url ?? 'unmatched')
      const method = request.is404 ? 'any' : request.method
      const { statusCode: status } = reply
      requests.inc({ method, route, status })
      if (request.call !== undefined) durations.observe({ route }, reply.elapsedTime / 1000)
      if (REJECTED.includes(status)) {
        const { failure: code = 'none', failureReason: reason = 'none' } = request
        rejected.inc({ code, reason })
      }
      if (REFUSALS.includes(request.failure)) refusals.observe(reply.elapsedTime / 1000)
      next()
    })
    app.addHook('onClose', () => {
      stopEventLoopTimer()
      registry.clear()
    })
    app.get(
      '/metrics',
      { config: { permit: false }, schema: METRICS_SCHEMA },
      async (_request, reply) => {
        const text = await registry.metrics()
        return reply.type(registry.contentType).send(text)
      },
    )
    done()
  },
  { name: 'metrics', dependencies: ['audit', 'auth', 'overload'] },
)

const SAMPLE_MS = 20
const DELAYS_S = [0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]

/**
 * Samples how late the event loop runs a timer, 50 times a second. A delay longer than the sampling
 * interval also counts for the samples that it prevented: one second of standstill is 50 samples.
 *
 * @returns a function that stops the sampling
 */
function measureEventLoopDelay(registry: Registry): () => void {
  const delays = new Histogram({
    name: 'tandem_event_loop_delay_seconds',
    help: 'How late the event loop ran a timer',
    buckets: DELAYS_S,
    registers: [registry],
  })
  let due = performance.now() + SAMPLE_MS
  const timer = setInterval(() => {
    const now = performance.now()
    for (let delay = Math.max(0, now - due); delay >= 0; delay -= SAMPLE_MS)
      delays.observe(delay / 1000)
    due = now + SAMPLE_MS
  }, SAMPLE_MS)
  timer.unref()
  return () => clearInterval(timer)
}
