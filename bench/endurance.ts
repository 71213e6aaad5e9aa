/** A million requests at full speed: does memory grow, does any request fail? */
import { join } from 'node:path'
import sharp from 'sharp'
import { packageFolder } from '../src/config.js'
import { slope } from '../test/soak/figures.js'
import type { TopLevelSpec } from 'vega-lite'
import type { Bench, Scale } from './bench.js'
import { eventLoopBetween, eventLoopSentence, type EventLoop } from './event-loop.js'
import { Load, type Asked } from './load.js'
import { photos } from './peers/workloads.js'
import { Service } from './service.js'

interface Figures {
  wanted: number
  requests: number
  seconds: number
  /** Number of answers by kind of request and status. */
  answers: Record<string, number>
  /** Anonymous memory of all processes in bytes, after a number of requests. */
  memory: { requests: number; bytes: number }[]
  event_loop: EventLoop
}

const EXTENTS: Readonly<Record<Scale, { requests: number; seconds: number; everyS: number }>> = {
  smoke: { requests: 400, seconds: 5, everyS: 0.2 },
  quick: { requests: 30_000, seconds: 45, everyS: 2 },
  full: { requests: 1_000_000, seconds: 690, everyS: 5 },
}
const CLIENTS = 32
/** Side of the photo in pixels: decoding a large one would take most of the time. */
const SIDE = 64
/** Ids repeat, so that items are replaced and the collection keeps its size. */
const IDS = 500
const WORDS = ['red', 'blue', 'green', 'sea', 'sand', 'dog', 'dogs', 'photo', 'bright', 'dark']
/** Share of the run that is not counted, while buffers and caches fill. */
const SETTLED = 1 / 3

export const enduranceBench: Bench<Figures> = {
  name: 'endurance',
  title: 'A million requests',
  run: async (scale) => {
    const { requests: wanted, seconds, everyS } = EXTENTS[scale]
    const [large] = await photos()
    const photo = await sharp(large).resize(SIDE).jpeg().toBuffer()
    const service = await Service.start({
      bundle: join(packageFolder, 'test', 'fixtures', 'tiny-bundle'),
    })
    const begun = performance.now()
    let [next, done] = [0, 0]
    const load = new Load(service.address, () => requestAt(next++, photo))
    const answers: Figures['answers'] = {}
    const memory: Figures['memory'] = []
    const sample = (): void => {
      const bytes = [...service.memory().values()].reduce(
        (sum, { anonymous }) => sum + anonymous,
        0,
      )
      memory.push({ requests: done, bytes })
    }
    const timer = setInterval(sample, everyS * 1000)
    try {
      const before = await service.metrics()
      const until = begun + seconds * 1000
      const client = async (): Promise<void> => {
        while (next < wanted && performance.now() < until) {
          const asked = requestAt(next++, photo)
          const { status } = await load.send(asked)
          const kind = `${asked.method} ${asked.path.split(/[?/]/)[1] ?? ''} ${status}`
          answers[kind] = (answers[kind] ?? 0) + 1
          done += 1
        }
      }
      await Promise.all(Array.from({ length: CLIENTS }, client))
      sample()
      if (!service.alive) throw new Error('the service has ended')
      return {
        wanted,
        requests: done,
        seconds: Math.round((performance.now() - begun) / 1000),
        answers,
        memory,
        event_loop: eventLoopBetween(before, await service.metrics()),
      }
    } finally {
      clearInterval(timer)
      load.close()
      await service.stop()
    }
  },
  page: ({ wanted, requests, seconds, answers, memory, event_loop: eventLoop }) => {
    const settled = memory.filter((one) => one.requests >= requests * SETTLED)
    const growth =
      settled.length < 2 ? 0 : slope(settled.map((one) => [one.requests, one.bytes] as const)) * 1e6
    const [from, to] = [settled[0]?.bytes ?? 0, memory.at(-1)?.bytes ?? 0]
    const short =
      requests < wanted ? ` The time ended before the ${wanted} that were to be sent.` : ''
    return [
      `${requests} requests by ${CLIENTS} clients in ${seconds} s, with the small bundle of the tests, whose models cost next to nothing: searches with and without ` +
        `rerank, embeddings, items read, added, replaced and removed.${short}`,
      `| request and status | answers |\n|---|---|\n${Object.entries(answers)
        .sort()
        .map(([kind, count]) => `| ${kind} | ${count} |`)
        .join('\n')}`,
      `Memory of all processes without mapped files: ${mebibytes(from)} MiB after the first third, ${mebibytes(to)} MiB at the end; the line through what lies between ` +
        `rises by **${mebibytes(growth)} MiB in a million requests**. ${eventLoopSentence(eventLoop)}`,
      '![Memory by requests](benchmarks/endurance.png)',
    ].join('\n\n')
  },
  plots: ({ memory }) => ({ endurance: plot(memory) }),
}

function requestAt(at: number, photo: Buffer): Asked {
  const text = `${WORDS[at % WORDS.length]} ${WORDS[(at * 7) % WORDS.length]}`
  // The same sequence each time; it reaches every item.
  const turn = Math.floor(at / 20)
  const idAt = (place: number): string => `item-${place % IDS}`
  const json = { 'content-type': 'application/json' }
  switch (at % 20) {
    case 0:
      return {
        method: 'PUT',
        path: `/items/${idAt(turn)}`,
        headers: { 'content-type': 'image/jpeg' },
        body: photo,
      }
    case 1:
      return { method: 'DELETE', path: `/items/${idAt(turn * 7)}`, headers: {} }
    case 2:
      return {
        method: 'GET',
        path: `/search?q=${encodeURIComponent(text)}&k=5&rerank=true`,
        headers: {},
      }
    case 3:
    case 4:
      return {
        method: 'POST',
        path: '/embed',
        headers: json,
        body: Buffer.from(JSON.stringify({ inputs: [{ text }] })),
      }
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
      return {
        method: 'GET',
        path: `/search?q=${encodeURIComponent(text)}&k=5&rerank=false`,
        headers: {},
      }
    default:
      return { method: 'GET', path: `/items/${idAt(at * 31)}`, headers: {} }
  }
}

function plot(memory: Figures['memory']): TopLevelSpec {
  return {
    width: 560,
    height: 240,
    data: {
      values: memory.map(({ requests, bytes }) => ({ requests, mebibytes: bytes / 2 ** 20 })),
    },
    mark: 'line',
    encoding: {
      x: { field: 'requests', type: 'quantitative', title: 'requests' },
      y: {
        field: 'mebibytes',
        type: 'quantitative',
        title: 'memory of all processes, MiB',
        scale: { zero: true },
      },
    },
  }
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1)
}
