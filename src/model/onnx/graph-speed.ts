/** How fast the graphs of bundles run on this machine's CPU, side by side. */
import { openBundle } from '../bundle/open.js'
import type { Bundle } from '../bundle/bundle.js'
import { readBundleFile } from '../bundle/bundle-file.js'
import { graphSpecs, type GraphName } from './graph-inputs.js'
import { Session } from './session.js'
import { dryRunInputs } from './dry-run.js'

/** Rows of a batch that are tried, by graph: one request, and what the service joins. */
const ROWS: Readonly<Record<GraphName, readonly number[]>> = {
  image: [1, 8],
  text: [1, 8, 32],
  fusion: [16, 64],
}

export interface GraphSpeed {
  graph: GraphName
  rows: number
  threads: number
  /** Of a batch, the median over the rounds, for each bundle that has such a graph. */
  milliseconds: number[]
}

export interface SpeedOptions {
  /** Threads of a run, each number tried. */
  threads: readonly number[]
  /**
   * Runs of each batch; the bundles take turns, so that what else the machine does meets all of
   * them.
   */
  rounds: number
  /** Of each text; cut to what a bundle takes. */
  tokens: number
}

/**
 * Loads the graphs into this process, whose thread they block, and runs made inputs through them.
 * @throws BundleError where one of the bundles, or a graph of it, cannot be used
 */
export async function graphSpeeds(
  folders: readonly string[],
  options: SpeedOptions,
): Promise<GraphSpeed[]> {
  const bundles = await Promise.all(folders.map(openBundle))
  const speeds: GraphSpeed[] = []
  for (const graph of ['image', 'text', 'fusion'] as const) {
    for (const threads of options.threads) {
      const runs = (
        await Promise.all(bundles.map((bundle) => runsOf(bundle, graph, threads, options.tokens)))
      ).flat()
      if (runs.length === 0) continue
      for (const rows of ROWS[graph]) {
        speeds.push({
          graph,
          rows,
          threads,
          milliseconds: await alternated(
            runs.map((run) => () => run(rows)),
            options.rounds,
          ),
        })
      }
    }
  }
  return speeds
}

/** Runs a batch of so many rows; none where the bundle has no such graph. */
async function runsOf(
  bundle: Bundle,
  graph: GraphName,
  threads: number,
  most: number,
): Promise<((rows: number) => Promise<unknown>)[]> {
  const spec = graphSpecs(bundle.manifest)[graph]
  if (spec === undefined) return []
  const session = await Session.open(await readBundleFile(bundle, spec.file), spec, {
    provider: 'cpu',
    device: 0,
    threads,
  })
  const tokens = Math.min(most, bundle.manifest.text_encoder.max_tokens)
  return [(rows) => session.run(dryRunInputs(spec, { rows, tokens }))]
}

/** The median milliseconds of each run, which take turns after a round that does not count. */
async function alternated(
  runs: readonly (() => Promise<unknown>)[],
  rounds: number,
): Promise<number[]> {
  const taken = runs.map((): number[] => [])
  for (let round = -1; round < rounds; round += 1) {
    for (const [at, run] of runs.entries()) {
      const begun = performance.now()
      await run()
      if (round >= 0) taken[at]?.push(performance.now() - begun)
    }
  }
  return taken.map(
    (times) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN,
  )
}
