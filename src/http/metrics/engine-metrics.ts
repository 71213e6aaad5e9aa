/** Metrics of the external engine that stores the items (VECTOR_INDEX=milvus). */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { Retrieval } from '../../retrieval/retrieval.js'

/** Adds the metrics to `registry`; their values are read at each scrape. */
export function engineMetrics(registry: Registry, retrieval: Pick<Retrieval, 'engine'>): void {
  const registers = [registry]
  new Gauge({
    name: 'tandem_engine_available',
    help: '1 while the engine is called, 0 while its breaker is open and calls are refused',
    labelNames: ['engine'],
    registers,
    collect() {
      const { engine } = retrieval
      if (engine !== null) this.set({ engine: engine.name }, engine.state === 'closed' ? 1 : 0)
    },
  })
  counter(
    'tandem_engine_breaker_opened_total',
    'Times that the breaker opened',
    ({ opened }) => opened,
  )
  counter('tandem_engine_retries_total', 'Calls that were retried', ({ retries }) => retries)
  new Counter({
    name: 'tandem_engine_failures_total',
    help: 'Calls that failed, including those that were retried',
    labelNames: ['engine', 'kind'],
    registers,
    collect() {
      this.reset()
      const { engine } = retrieval
      for (const [kind, times] of Object.entries(engine?.failures ?? {}))
        this.inc({ engine: engine?.name ?? '', kind }, times)
    },
  })

  function counter(
    name: string,
    help: string,
    read: (engine: NonNullable<Retrieval['engine']>) => number,
  ): void {
    new Counter({
      name,
      help,
      labelNames: ['engine'],
      registers,
      collect() {
        this.reset()
        const { engine } = retrieval
        if (engine !== null) this.inc({ engine: engine.name }, read(engine))
      },
    })
  }
}
