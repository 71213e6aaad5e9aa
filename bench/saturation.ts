/**
 * Text search: at saturation against the best of the bare runtime, and idle against encoding with a
 * bare search of the graph.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageFolder } from '../src/config.js'
import { availableCores } from '../src/model/inference/cpu-quota.js'
import { median, quantile } from '../test/soak/figures.js'
import { Bare } from './bare.js'
import type { Bench, Scale } from './bench.js'
import { coreSecondsOf, type CoreSeconds } from './core-time.js'
import { eventLoopBetween, eventLoopSentence, type EventLoop } from './event-loop.js'
import { Load } from './load.js'
import { captionedQueries, randomQueries } from './peers/given.js'
import { corpus, K } from './peers/searched.js'
import { workloads } from './peers/workloads.js'
import { Service } from './service.js'
import { benchCache } from './vectors.js'

interface Figures {
  bundle: string
  items: number
  clients: number
  /** Texts a second of the bare runtime, once for each way to use the cores. */
  bare: { processes: number; threads: number; rows: number; texts: number }[]
  /** A second: the best of those ways again, and searches over HTTP. */
  rounds: { bare: number; searches: number }[]
  /** Of one search. */
  core_seconds: CoreSeconds
  /** Median milliseconds of one at a time, of each round. */
  idle: { bare: number; service: number }[]
  event_loop: EventLoop
}

interface Extent {
  bundle: string
  items: number
  rows: readonly number[]
  rounds: number
  seconds: number
  queries: number
}

const EXTENTS: Readonly<Record<Scale, Extent>> = {
  smoke: {
    bundle: join('test', 'fixtures', 'tiny-bundle'),
    items: 300,
    rows: [4],
    rounds: 1,
    seconds: 0.4,
    queries: 20,
  },
  quick: {
    bundle: join('models', 'tandem-small'),
    items: 10_000,
    rows: [16, 32],
    rounds: 2,
    seconds: 2,
    queries: 100,
  },
  full: {
    bundle: join('models', 'tandem-small'),
    items: 100_000,
    rows: [4, 8, 16, 32, 64],
    rounds: 5,
    seconds: 8,
    queries: 300,
  },
}
const CLIENTS = 48
const WARM_UP_S = 3

export const saturationBench: Bench<Figures> = {
  name: 'saturation',
  title: 'Text search at saturation',
  run: async (scale) => {
    const extent = EXTENTS[scale]
    const isSmoke = scale === 'smoke'
    const bundle = join(packageFolder, extent.bundle)
    const given = isSmoke
      ? await randomQueries({ ...extent, bundle })
      : await captionedQueries(extent)
    const place = isSmoke
      ? await mkdtemp(join(tmpdir(), 'tandem-saturation-'))
      : join(benchCache, `peers-${extent.items}`)
    const found = await corpus(bundle, given.items, given.queries, place)
    const cores = availableCores()
    const service = await Service.start({ bundle, folder: found.data })
    const load = new Load(service.address, nextOf(workloads(given.captions, []).search.tandem))
    try {
      const ways = await tried(bundle, cores, given.captions, extent)
      const best = ways.reduce((a, b) => (b.texts > a.texts ? b : a))
      const bare = await Bare.open(bundle, best.processes, best.threads)
      const searches = async (seconds: number): Promise<number> => {
        const begun = performance.now()
        let done = 0
        await load.closed(CLIENTS, seconds, (_, { status, said }) => {
          if (status !== 200) throw new Error(`a search was answered with ${status}: ${said}`)
          done += 1
        })
        return (1000 * done) / (performance.now() - begun)
      }
      try {
        await searches(Math.min(WARM_UP_S, extent.seconds))
        const before = await service.metrics()
        const rounds: Figures['rounds'] = []
        let done = 0
        const spent = await coreSecondsOf(service.pid, 1, async () => {
          for (let round = 0; round < extent.rounds; round += 1) {
            const texts = await bare.texts(given.captions, best.rows, extent.seconds)
            const perSecond = await searches(extent.seconds)
            done += perSecond * extent.seconds
            rounds.push({ bare: texts, searches: perSecond })
          }
        })
        const eventLoop = eventLoopBetween(before, await service.metrics())
        const idle: Figures['idle'] = []
        const {
          queries: texts,
          dim,
          searched: { index, ef },
        } = found
        const asked = workloads(texts, []).search.tandem
        for (let round = 0; round < extent.rounds; round += 1) {
          const alone = await bare.queries({ texts, index, dim, ef, k: Math.min(K, extent.items) })
          const each: number[] = []
          for (const at of texts.keys()) each.push((await load.send(asked(at))).milliseconds)
          idle.push({ bare: quantile(alone, 0.5), service: quantile(each, 0.5) })
        }
        const costs = Object.entries(spent).map(([name, all]) => [
          name,
          Number((all / done).toPrecision(3)),
        ])
        const name = bundle.split('/').at(-1) ?? ''
        const core_seconds = Object.fromEntries(costs) as CoreSeconds
        return {
          bundle: name,
          items: extent.items,
          clients: CLIENTS,
          bare: ways,
          rounds,
          core_seconds,
          idle,
          event_loop: eventLoop,
        }
      } finally {
        await bare.close()
      }
    } finally {
      load.close()
      await service.stop()
      if (isSmoke) await rm(place, { recursive: true })
    }
  },
  page: ({
    bundle,
    items,
    clients,
    bare,
    rounds,
    core_seconds: spent,
    idle,
    event_loop: eventLoop,
  }) => {
    const [texts, searches] = [
      median(rounds.map((round) => round.bare)),
      median(rounds.map((round) => round.searches)),
    ]
    const ratio = median(rounds.map((round) => round.searches / round.bare))
    const over = median(idle.map((round) => round.service - round.bare))
    return [
      `${clients} clients on the same machine search ${items} items by captions (\`GET /search\`, no rerank, ${K} hits), each again as soon as it is answered. ` +
        `The bare runtime encodes the same captions with \`${bundle}\` in batches of like length and does nothing else; these ways of using the cores were tried:`,
      `| processes | threads of each | texts in a batch | texts a second |\n|---|---|---|---|\n${bare.map((way) => `| ${way.processes} | ${way.threads} | ${way.rows} | ${way.texts.toFixed(0)} |`).join('\n')}`,
      `| | a second | |\n|---|---|---|\n| texts, bare runtime at its best | ${texts.toFixed(0)} | |\n| searches over HTTP | ${searches.toFixed(0)} | **${Math.round(ratio * 100)} %** |`,
      `Medians of ${rounds.length} rounds. Core milliseconds a search: ${Object.entries(spent)
        .map(([name, s]) => `${name} ${(1000 * s).toFixed(2)}`)
        .join(', ')}. ${eventLoopSentence(eventLoop)}`,
      `One search at a time takes ${median(idle.map((round) => round.service)).toFixed(2)} ms at the median, of a client that keeps its connection; to tokenize, encode and ` +
        `search the same graph in one bare process ${median(idle.map((round) => round.bare)).toFixed(2)} ms: the service adds **${over.toFixed(2)} ms**.`,
    ].join('\n\n')
  },
}

/** A process for each core with one thread, and one with a thread for each. */
async function tried(
  bundle: string,
  cores: number,
  texts: readonly string[],
  { rows, seconds }: Extent,
): Promise<Figures['bare']> {
  const ways: Figures['bare'] = []
  for (const [processes, threads] of [
    [cores, 1],
    [1, cores],
  ] as const) {
    const bare = await Bare.open(bundle, processes, threads)
    for (const one of rows)
      ways.push({ processes, threads, rows: one, texts: await bare.texts(texts, one, seconds / 4) })
    await bare.close()
  }
  return ways
}

function nextOf<Value>(at: (place: number) => Value): () => Value {
  let next = 0
  return () => at(next++)
}
