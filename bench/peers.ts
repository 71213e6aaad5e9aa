/**
 * Tandem against services that a team would write instead, with the same graphs, tokenizer and
 * items: throughput, and latency at loads that the peer sustains.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageFolder } from '../src/config.js'
import { BenchSkipped, type Bench, type Scale } from './bench.js'
import { agreement, hitsOf } from './peers/agreement.js'
import { captionedQueries, randomQueries, type Given } from './peers/given.js'
import { pinned, programsOf, type PythonPeer } from './peers/environment.js'
import type { Compared, Figures, OfWorkload } from './peers/figures.js'
import { Sample, type Loaded, type Side } from './peers/measure.js'
import { page } from './peers/page.js'
import { fastapi, fastify, infinity, Peer, type Division, type PeerKind } from './peers/peer.js'
import { bareRate } from './peers/runtime.js'
import { corpus, RECALL, recallOf, type Corpus } from './peers/searched.js'
import { photos, workloads, type Workload } from './peers/workloads.js'
import { Service } from './service.js'
import { benchCache } from './vectors.js'

interface Extent {
  bundle: string
  items: number
  queries: number
  /** Of each load, by workload, and how often it is put on each side. */
  seconds: Record<Workload['name'], number>
  rounds: number
  /** Of each division of the cores that is tried; 0 takes the last one untried. */
  tuningS: number
  shares: readonly number[]
}

const everywhere = (seconds: number): Extent['seconds'] => ({
  text: seconds,
  image: seconds,
  search: seconds,
})
const models = join(packageFolder, 'models')
const EXTENTS: Readonly<Record<Scale, Extent>> = {
  smoke: {
    bundle: join(packageFolder, 'test', 'fixtures', 'tiny-bundle'),
    items: 300,
    queries: 20,
    seconds: everywhere(0.3),
    rounds: 1,
    tuningS: 0,
    shares: [0.8],
  },
  quick: {
    bundle: join(models, 'tandem-small'),
    items: 10_000,
    queries: 100,
    seconds: everywhere(1.5),
    rounds: 1,
    tuningS: 0,
    shares: [0.8],
  },
  // A photo takes longer, and a p99 needs some hundreds of them.
  full: {
    bundle: join(models, 'tandem-small'),
    items: 100_000,
    queries: 300,
    seconds: { text: 4, image: 6, search: 4 },
    rounds: 2,
    tuningS: 4,
    shares: [0.5, 0.8, 1],
  },
}
const CLIENTS = 16
const WARM_UP_S = 1
/** The share of the peer's saturation at which Tandem is asked for twice as much. */
const TWICE_OF = 0.8

export const peersBench: Bench<Figures> = {
  name: 'peers',
  title: 'Against services with the same weights',
  page,
  run: async (scale) => {
    const extent = EXTENTS[scale]
    const isSmoke = scale === 'smoke'
    const { kinds, leftOut } = isSmoke
      ? { kinds: [fastify], leftOut: [] }
      : kindsHere(extent.bundle)
    const given = isSmoke ? await randomQueries(extent) : await captionedQueries(extent)
    const place = isSmoke
      ? await mkdtemp(join(tmpdir(), 'tandem-peers-'))
      : join(benchCache, `peers-${extent.items}`)
    try {
      const figures = await compared(
        extent,
        kinds,
        given,
        await corpus(extent.bundle, given.items, given.queries, place),
      )
      return { ...figures, left_out: leftOut }
    } finally {
      if (isSmoke) await rm(place, { recursive: true })
    }
  },
}

/** The peers that can run here; fastify needs no further installation. */
function kindsHere(bundle: string): { kinds: PeerKind[]; leftOut: string[] } {
  const kinds = [fastify]
  const leftOut: string[] = []
  const add = (name: PythonPeer, open: (programs: string) => PeerKind): void => {
    try {
      kinds.push(open(programsOf(name)))
    } catch (error) {
      leftOut.push(
        `${name} is not among them: ${error instanceof BenchSkipped ? error.message : String(error)}.`,
      )
    }
  }
  add('fastapi', fastapi)
  add('infinity', (programs) => infinity(programs, bundle))
  return { kinds, leftOut }
}

async function compared(
  extent: Extent,
  kinds: readonly PeerKind[],
  given: Given,
  found: Corpus,
): Promise<Omit<Figures, 'left_out'>> {
  const { bundle, seconds, rounds } = extent
  const sent = { captions: given.captions, images: await photos() }
  const all = workloads(sent.captions, sent.images)
  const tandem = await Service.start({ bundle, folder: found.data })
  try {
    const asked = workloads(found.queries, []).search
    const hits = await hitsOf(
      tandem.address,
      found.queries.map((_, at) => asked.tandem(at)),
    )
    const recalls: Record<string, number> = { tandem: recallOf(hits, found.nearest) }
    const agreements: Figures['agreement'] = {}
    const outcomes: OfWorkload[] = []
    for (const workload of Object.values(all)) {
      const able = kinds.filter((kind) => kind.workloads?.includes(workload.name) ?? true)
      const bare = await bareRate(workload.name, bundle, sent, {
        seconds: seconds[workload.name],
        rounds,
      })
      const outcome = await ofWorkload(
        workload,
        extent,
        able,
        tandem.address,
        found,
        async (kind, address) => {
          if (workload.name === 'search') {
            recalls[kind.name] = recallOf(
              await hitsOf(
                address,
                found.queries.map((_, at) => asked.peer(at)),
              ),
              found.nearest,
            )
            return
          }
          const least = await agreement(
            { tandem: workload.tandem, peer: askedOf(kind, workload), name: workload.name },
            tandem.address,
            address,
          )
          agreements[kind.name] = { ...agreements[kind.name], [workload.name]: least }
        },
      )
      outcomes.push({ ...outcome, bare })
    }
    const low = Object.entries(recalls).filter(([, recall]) => recall < RECALL)
    // Embeddings of random weights are too similar.
    if (low.length > 0 && given.areReal)
      throw new Error(`of what exact search finds, too little is found: ${JSON.stringify(recalls)}`)
    const {
      items,
      dim,
      searched: { ef },
    } = found
    return {
      clients: CLIENTS,
      seconds: seconds.text,
      rounds,
      corpus: { items, dim, ef, recalls },
      agreement: agreements,
      versions: Object.fromEntries(
        (['fastapi', 'infinity'] as const)
          .filter((name) => kinds.some((kind) => kind.name === name))
          .map((name) => [name, pinned(name)]),
      ),
      workloads: outcomes,
    }
  } finally {
    await tandem.stop()
  }
}

function askedOf({ translated = (asked) => asked }: PeerKind, { peer }: Workload): Side['asked'] {
  return (at) => translated(peer(at))
}

type Check = (kind: PeerKind, address: string) => Promise<void>

async function ofWorkload(
  workload: Workload,
  extent: Extent,
  kinds: readonly PeerKind[],
  tandemAddress: string,
  { searched }: Corpus,
  check: Check,
): Promise<Omit<OfWorkload, 'bare'>> {
  const { bundle, rounds } = extent
  const seconds = extent.seconds[workload.name]
  const tandem: Side = { address: tandemAddress, asked: workload.tandem }
  const running: { kind: PeerKind; division: Division; peer: Peer; side: Side }[] = []
  try {
    for (const kind of kinds) {
      const start = (division: Division): Promise<Peer> =>
        Peer.start(kind, division, bundle, searched)
      const division = await bestDivision(kind, start, workload, extent.tuningS)
      const peer = await start(division)
      running.push({
        kind,
        division,
        peer,
        side: { address: peer.address, asked: askedOf(kind, workload) },
      })
      await check(kind, peer.address)
    }
    const sides = [tandem, ...running.map(({ side }) => side)]
    for (const side of sides) await new Sample().closed(side, CLIENTS, Math.min(WARM_UP_S, seconds))
    const [ours, ...theirs] = await inRounds(
      rounds,
      sides.map((side) => (sample) => sample.closed(side, CLIENTS, seconds)),
    )
    const outcomes: Compared[] = []
    for (const [
      at,
      {
        kind: { name, title },
        division,
        side,
      },
    ] of running.entries()) {
      const saturation = theirs[at] as Loaded
      const rate = (share: number): number => share * saturation.answered
      const twice = 2 * TWICE_OF
      const open = (one: Side, share: number) => (sample: Sample) =>
        sample.open(one, rate(share), seconds)
      const loads = await inRounds(rounds, [
        ...extent.shares.flatMap((share) => [open(side, share), open(tandem, share)]),
        open(tandem, twice),
      ])
      const atLoads = extent.shares.map((share, i) => ({
        share,
        peer: loads[2 * i] as Loaded,
        tandem: loads[2 * i + 1] as Loaded,
      }))
      const { peer } = atLoads[extent.shares.indexOf(TWICE_OF)] as (typeof atLoads)[number]
      outcomes.push({
        name,
        title,
        division,
        saturation,
        loads: atLoads,
        twice: { share: twice, peer, tandem: loads.at(-1) as Loaded },
      })
    }
    return {
      name: workload.name,
      title: workload.title,
      saturation: ours as Loaded,
      peers: outcomes,
    }
  } finally {
    for (const { peer } of running) await peer.stop()
  }
}

/**
 * Each load once per round, in sequence, so that changes of the machine affect all alike.
 */
async function inRounds(
  rounds: number,
  loads: readonly ((sample: Sample) => Promise<void>)[],
): Promise<Loaded[]> {
  const samples = loads.map(() => new Sample())
  for (let round = 0; round < rounds; round += 1) {
    for (const [at, load] of loads.entries()) await load(samples[at] as Sample)
  }
  return samples.map((sample) => sample.read())
}

/** The division of the cores with which the peer answers most. */
async function bestDivision(
  kind: PeerKind,
  start: (division: Division) => Promise<Peer>,
  workload: Workload,
  tuningS: number,
): Promise<Division> {
  const { divisions } = kind
  let best = { division: divisions.at(-1) as Division, answered: 0 }
  if (tuningS === 0 || divisions.length === 1) return best.division
  for (const division of divisions) {
    const peer = await start(division)
    try {
      const side = { address: peer.address, asked: askedOf(kind, workload) }
      await new Sample().closed(side, CLIENTS, WARM_UP_S)
      const sample = new Sample()
      await sample.closed(side, CLIENTS, tuningS)
      const { answered } = sample.read()
      if (answered > best.answered) best = { division, answered }
    } finally {
      await peer.stop()
    }
  }
  return best.division
}
