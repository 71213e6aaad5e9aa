/** Durable adds of photos over HTTP, against a bare loop of the same decoding and inference. */
import { join } from 'node:path'
import { packageFolder } from '../src/config.js'
import { availableCores } from '../src/model/inference/cpu-quota.js'
import { median } from '../test/soak/figures.js'
import { Bare } from './bare.js'
import type { Bench, Scale } from './bench.js'
import { coreSecondsOf, type CoreSeconds } from './core-time.js'
import { eventLoopBetween, eventLoopSentence, type EventLoop } from './event-loop.js'
import { Load, type Asked } from './load.js'
import { photos } from './peers/workloads.js'
import { Service } from './service.js'

interface Figures {
  bundle: string
  cores: number
  clients: number
  /** Photos per second of each round. */
  rounds: { bare: number; service: number }[]
  /** Cost of one added photo. */
  core_seconds: CoreSeconds
  event_loop: EventLoop
}

const EXTENTS: Readonly<Record<Scale, { bundle: string; rounds: number; seconds: number }>> = {
  smoke: { bundle: join('test', 'fixtures', 'tiny-bundle'), rounds: 1, seconds: 0.5 },
  quick: { bundle: join('models', 'tandem-small'), rounds: 2, seconds: 5 },
  full: { bundle: join('models', 'tandem-small'), rounds: 7, seconds: 12 },
}
/** Permits for bulk requests of one client, as these are by their address. */
const CLIENTS = 12
const WARM_UP = 32
const headers = { 'content-type': 'image/jpeg' }

export const indexingBench: Bench<Figures> = {
  name: 'indexing',
  title: 'Adding photos',
  run: async (scale) => {
    const { bundle, rounds, seconds } = EXTENTS[scale]
    const images = await photos()
    const path = join(packageFolder, bundle)
    const cores = availableCores()
    const service = await Service.start({ bundle: path })
    const bare = await Bare.open(path, cores, 1)
    let next = 0
    const add = (): Asked => {
      const at = next++
      return {
        method: 'PUT',
        path: `/items/photo-${at}`,
        headers,
        body: images[at % images.length] as Buffer,
      }
    }
    const load = new Load(service.address, add)
    try {
      await load.all(CLIENTS, Array.from({ length: WARM_UP }, add))
      await bare.photos(images, seconds / 4, true)
      const before = await service.metrics()
      const measured: Figures['rounds'] = []
      let added = 0
      const ofService = async (): Promise<number> => {
        const begun = performance.now()
        let done = 0
        await load.closed(CLIENTS, seconds, (_, { status, said }) => {
          if (status !== 201) throw new Error(`adding a photo was answered with ${status}: ${said}`)
          done += 1
        })
        added += done
        return (1000 * done) / (performance.now() - begun)
      }
      const spent = await coreSecondsOf(service.pid, 1, async () => {
        for (let round = 0; round < rounds; round += 1) {
          measured.push({
            bare: await bare.photos(images, seconds, true),
            service: await ofService(),
          })
        }
      })
      const each = Object.entries(spent).map(([name, all]) => [
        name,
        Number((all / added).toPrecision(3)),
      ])
      return {
        bundle: path.split('/').at(-1) ?? '',
        cores,
        clients: CLIENTS,
        rounds: measured,
        core_seconds: Object.fromEntries(each) as CoreSeconds,
        event_loop: eventLoopBetween(before, await service.metrics()),
      }
    } finally {
      load.close()
      await Promise.all([bare.close(), service.stop()])
    }
  },
  page: ({ bundle, cores, clients, rounds, core_seconds: spent, event_loop: eventLoop }) => {
    const [bare, service] = [
      median(rounds.map((round) => round.bare)),
      median(rounds.map((round) => round.service)),
    ]
    const ratio = median(rounds.map((round) => round.service / round.bare))
    return [
      `JPEG photos of 500 pixels are added with \`PUT /items\` by ${clients} clients on the same machine: decoded, encoded with \`${bundle}\`, on disk and ` +
        `in the index when they are answered. The bare loop decodes and encodes the same photos in ${cores} processes of one thread that do nothing else; ` +
        `it has no server, no clients and keeps nothing.`,
      `| | photos a second | |\n|---|---|---|\n| bare loop | ${bare.toFixed(1)} | |\n| over HTTP, durable | ${service.toFixed(1)} | **${Math.round(ratio * 100)} %** |`,
      `Medians of ${rounds.length} rounds. Core milliseconds a photo: ${Object.entries(spent)
        .map(([name, s]) => `${name} ${(1000 * s).toFixed(1)}`)
        .join(', ')}. ` + eventLoopSentence(eventLoop),
    ].join('\n\n')
  },
}
