/** Time from start to ready, and memory when idle. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { packageFolder } from '../src/config.js'
import { quantile } from '../test/soak/figures.js'
import type { Bench, Scale } from './bench.js'
import { filledFolder } from './filled-folder.js'
import { captionedQueries, randomQueries } from './peers/given.js'
import { Service } from './service.js'
import { benchCache } from './vectors.js'

interface Started {
  /**
   * Milliseconds to ready: of the first start, which prepares the graphs, and of each later one.
   */
  first: number
  later: number[]
  /** Idle bytes of all processes, shared pages once; and resident bytes of each. */
  idle: number
  resident: Record<string, number>
}

interface Figures {
  bundle: string
  items: number
  empty: Started
  filled: Started
}

const EXTENTS: Readonly<
  Record<Scale, { bundle: string; items: number; starts: number; idleS: number }>
> = {
  smoke: { bundle: join('test', 'fixtures', 'tiny-bundle'), items: 300, starts: 1, idleS: 0.1 },
  quick: { bundle: join('models', 'tandem-small'), items: 10_000, starts: 2, idleS: 3 },
  full: { bundle: join('models', 'tandem-small'), items: 100_000, starts: 7, idleS: 10 },
}

export const startBench: Bench<Figures> = {
  name: 'start',
  title: 'Start and idle memory',
  run: async (scale) => {
    const { bundle: name, items, starts, idleS } = EXTENTS[scale]
    const isSmoke = scale === 'smoke'
    const bundle = join(packageFolder, name)
    const given = isSmoke
      ? await randomQueries({ bundle, items, queries: 1 })
      : await captionedQueries({ items, queries: 1 })
    const folder = await mkdtemp(join(tmpdir(), 'tandem-start-'))
    try {
      // The folder of the other service benchmarks, which takes minutes to make.
      const { data } = await filledFolder(
        bundle,
        given.items,
        isSmoke ? join(folder, 'filled') : join(benchCache, `peers-${items}`, 'data'),
      )
      await rm(join(data, 'graphs'), { recursive: true, force: true })
      return {
        bundle: bundle.split('/').at(-1) ?? '',
        items,
        empty: await started(bundle, join(folder, 'empty'), starts, idleS),
        filled: await started(bundle, data, starts, idleS),
      }
    } finally {
      await rm(folder, { recursive: true })
    }
  },
  page: ({ bundle, items, empty, filled }) => {
    const row = (what: string, { first, later, idle }: Started): string =>
      `| ${what} | ${seconds(quantile(later, 0.5))} | ${seconds(Math.max(...later))} | ${seconds(first)} | ${mebibytes(idle)} |`
    const resident = Object.entries(empty.resident).map(
      ([name, bytes]) => `${name} ${mebibytes(bytes)}`,
    )
    return [
      `From the start of the process until it says that it is ready, with \`${bundle}\`: its bundle verified, the graphs loaded and tried on the goldens, the ` +
        `index level with the store, the model warm. The first start on a machine also prepares the graphs for its processor and measures what batches suit it.`,
      `| | start, median, s | slowest, s | first start, s | idle memory, MiB |\n|---|---|---|---|---|\n${row('no items', empty)}\n${row(`${items} items`, filled)}`,
      `Medians of ${empty.later.length} starts. Memory is that of all processes, what they share counted once (PSS). As each process counts it, shared pages ` +
        `included, an empty service has in MiB: ${resident.join(', ')}.`,
    ].join('\n\n')
  },
}

async function started(
  bundle: string,
  folder: string,
  starts: number,
  idleS: number,
): Promise<Started> {
  const start = async (): Promise<{ service: Service; milliseconds: number }> => {
    const begun = performance.now()
    const service = await Service.start({ bundle, folder })
    return { service, milliseconds: performance.now() - begun }
  }
  const { service, milliseconds: first } = await start()
  await service.stop()
  const later: number[] = []
  const idle: number[] = []
  let resident: Started['resident'] = {}
  for (let at = 0; at < starts; at += 1) {
    const { service: one, milliseconds } = await start()
    later.push(milliseconds)
    if (at === starts - 1) {
      await pause(idleS * 1000)
      resident = Object.fromEntries(
        [...one.memory()].map(([name, memory]) => [name, memory.resident]),
      )
      idle.push(one.proportionalBytes())
    }
    await one.stop()
  }
  return { first, later, idle: Math.max(...idle), resident }
}

function seconds(milliseconds: number): string {
  return (milliseconds / 1000).toFixed(2)
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0)
}
