/** What bench/results/peers.json holds. */
import type { Division } from './peer.js'
import type { Loaded } from './measure.js'
import type { Workload } from './workloads.js'

/** The same load on the peer and on Tandem: so much of what the peer answers at saturation. */
export interface AtLoad {
  share: number
  peer: Loaded
  tandem: Loaded
}

export interface Compared {
  name: string
  title: string
  division: Division
  saturation: Loaded
  loads: AtLoad[]
  /** Tandem under twice the load at which `peer` is what the peer does. */
  twice: { share: number; peer: Loaded; tandem: Loaded }
}

export interface OfWorkload {
  name: Workload['name']
  title: string
  saturation: Loaded
  /**
   * A second, with no service around the runtime; null where the runtime is not all that is needed.
   */
  bare: number | null
  peers: Compared[]
}

export interface Figures {
  clients: number
  /** Of each run, and runs of each load. */
  seconds: number
  rounds: number
  /** `ef` of the peers; recall@10 against exact search, by service. */
  corpus: { items: number; dim: number; ef: number; recalls: Record<string, number> }
  /** The least cosine of Tandem's embeddings and a peer's, by peer. */
  agreement: Record<string, { text?: number; image?: number }>
  versions: Record<string, string[]>
  /** Why peers are missing. */
  left_out: string[]
  workloads: OfWorkload[]
}

/** Failures beyond this share make a latency worthless. */
export const MOST_FAILED = 0.01

/** Whether Tandem, under twice the peer's load, is no slower than it. */
export function isTwiceAsMuch({ twice: { peer, tandem } }: Compared): boolean {
  return tandem.failed <= MOST_FAILED && tandem.p99 <= peer.p99
}

/** How much of the peer's p99 is Tandem's; infinite where Tandem failed. */
export function slowness({ peer, tandem }: Pick<AtLoad, 'peer' | 'tandem'>): number {
  return tandem.failed > MOST_FAILED ? Infinity : tandem.p99 / peer.p99
}
