import { availableParallelism } from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Load } from '../../bench/load.js'
import { Service } from '../../bench/service.js'
import { HistogramChange, quantile, slope } from './figures.js'
import { outcomeOf, Requests, type Outcome, type SoakRequest } from './requests.js'
import type { Memory } from '../support/process-memory.js'

export interface Soak {
  cores: number
  minutes: number
  /** Requests a second: the most that closed-loop clients got answered, and the offered rate. */
  sustainable: number
  offered: number
  outcomes: Outcome[]
  unsent: number
  /** Of the main process's event loop, over the soak. */
  loopDelay: HistogramChange
  /** Of refusals, inside the service. */
  refusals: HistogramChange
  /** Milliseconds that the event loop of the load generator adds to the client's figures. */
  generatorDelayP99: number
  /** Of each process and of all together, after the warm-up. */
  memory: Map<string, MemoryOverTime>
}

/** Bytes, and their rise. */
export type MemoryOverTime = Record<
  keyof Memory,
  { min: number; median: number; max: number; perHour: number }
>

const CLIENTS = [1, 2, 4, 8, 16]
const WARM_UP_CLIENTS = 4
const MEMORY_EVERY_MS = 2000
const DELAY_EVERY_MS = 20
/** Share of the soak without memory samples: caches fill and allocators grow. */
const WARM_UP = 0.25
export const TOGETHER = 'together'

/** Fills the service, finds its sustainable rate, then offers twice that rate for some minutes. */
export async function runSoak(options: {
  minutes: number
  model: string
  seed: number
  rampS: number
  /** Replacements of items before the ramp, as a warm-up. */
  replacements: number
  tell: (line: string) => void
}): Promise<Soak> {
  const { minutes, model, seed, rampS, replacements, tell } = options
  const requests = await Requests.make(seed)
  const service = await Service.start({ bundle: model })
  const load = new Load(service.address, () => requests.next())
  try {
    for (const add of requests.fill()) await load.send(add)
    await load.all(WARM_UP_CLIENTS, requests.warmUp(replacements))
    tell(`warmed up by ${replacements} replacements and four times as many searches`)
    const sustainable = await ramp(load, rampS, tell)
    const offered = 2 * sustainable
    tell(
      `sustainable ${sustainable.toFixed(1)}/s; offering ${offered.toFixed(1)}/s for ${minutes} min`,
    )
    // Not measured: the service learns its latencies under load.
    await load.open(offered, Math.min(10, minutes * 15), () => undefined)

    const before = await service.metrics()
    const outcomes: Outcome[] = []
    const samples: { hours: number; of: Map<string, Memory> }[] = []
    const delay = monitorEventLoopDelay({ resolution: DELAY_EVERY_MS })
    const begun = performance.now()
    const sampling = setInterval(() => {
      samples.push({ hours: (performance.now() - begun) / 3_600_000, of: service.memory() })
    }, MEMORY_EVERY_MS)
    delay.enable()
    const unsent = await load.open(offered, minutes * 60, (asked, answer) =>
      outcomes.push(outcomeOf(asked, answer)),
    )
    clearInterval(sampling)
    delay.disable()
    const after = await service.metrics()

    return {
      cores: availableParallelism(),
      minutes,
      sustainable,
      offered,
      outcomes,
      unsent,
      loopDelay: new HistogramChange('tandem_event_loop_delay_seconds', before, after),
      refusals: new HistogramChange('tandem_refusal_duration_seconds', before, after),
      // The monitor records the time between two samples.
      generatorDelayP99: Math.max(0, delay.percentile(99) / 1e6 - DELAY_EVERY_MS),
      memory: memoryOverTime(samples.slice(Math.floor(samples.length * WARM_UP))),
    }
  } finally {
    load.close()
    await service.stop()
  }
}

/** The most requests a second answered in time, over growing numbers of closed-loop clients. */
async function ramp(
  load: Load<SoakRequest>,
  seconds: number,
  tell: (line: string) => void,
): Promise<number> {
  let best = 0
  for (const clients of CLIENTS) {
    const outcomes: Outcome[] = []
    const begun = performance.now()
    await load.closed(clients, seconds, (asked, answer) => outcomes.push(outcomeOf(asked, answer)))
    const answered = outcomes.filter(({ fate }) => fate === 'answered').length
    const rate = (answered * 1000) / (performance.now() - begun)
    const p95 = quantile(
      outcomes.map(({ milliseconds }) => milliseconds),
      0.95,
    )
    tell(
      `${clients} clients: ${rate.toFixed(1)}/s answered, ${outcomes.length - answered} not, p95 ${p95.toFixed(0)} ms`,
    )
    if (answered >= outcomes.length * 0.99) best = Math.max(best, rate)
  }
  if (best === 0) throw new Error('no rate was found at which the service answers')
  return best
}

function memoryOverTime(
  samples: readonly { hours: number; of: Map<string, Memory> }[],
): Soak['memory'] {
  const names = [...new Set(samples.flatMap(({ of }) => [...of.keys()]))]
  const over = (members: readonly string[], kind: keyof Memory): MemoryOverTime[keyof Memory] => {
    const points = samples.map(
      ({ hours, of }) =>
        [hours, members.reduce((sum, name) => sum + (of.get(name)?.[kind] ?? 0), 0)] as const,
    )
    const bytes = points.map(([, y]) => y)
    return {
      min: Math.min(...bytes),
      median: quantile(bytes, 0.5),
      max: Math.max(...bytes),
      perHour: slope(points),
    }
  }
  const both = (members: readonly string[]): MemoryOverTime => ({
    resident: over(members, 'resident'),
    anonymous: over(members, 'anonymous'),
  })
  return new Map([...names.map((name) => [name, both([name])] as const), [TOGETHER, both(names)]])
}
