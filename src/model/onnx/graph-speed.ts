/** Measures the graphs of bundles on this machine's CPU, side by side. */
import { openBundle } from '../bundle/open.js'
import type { Bundle } from '../bundle/bundle.js'
import { readBundleFile } from '../bundle/bundle-file.js'
import { graphSpecs, type GraphKind } from './graph-inputs.js'
import { Session } from './session.js'
import { dryRunInputs } from './dry-run.js'

/** Rows of the batches, by graph: a single request and batches of several. */
const ROWS: Readonly<Record<GraphKind, readonly number[]>> = {
  image: [1, 8],
  text: [1, 8, 32],
  tokens: [1, 8],
  fusion: [16, 64],
}

export interface GraphSpeed {
  graph: GraphKind
  rows: number
  threads: number
  /** Median time of a batch for each bundle that has the graph. */
  milliseconds: number[]
}

export interface SpeedOptions {
  /** Numbers of threads to measure. */
  threads: readonly number[]
  /** Runs of each batch. Bundles alternate, so that other load of the machine affects all alike. */
  rounds: number
  /** Tokens of each text, up to the maximum of the bundle. */
  tokens: number
}

/**
 * Loads the graphs into this process and runs constant inputs, which blocks its thread.
 * @throws BundleError for a bundle or a graph that cannot be used
 */
export async function graphSpeeds(
  folders: readonly string[],
  options: SpeedOptions,
): Promise<GraphSpeed[]> {
  const bundles = await Promise.all(folders.map(openBundle))
  const speeds: GraphSpeed[] = []
  for (const graph of ['image', 'text', 'tokens', 'fusion'] as const) {
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

/** A function that runs a batch of a given number of rows; none if the bundle has no such graph. */
async function runsOf(
  bundle: Bundle,
  graph: GraphKind,
  threads: number,
  maxTokens: number,
): Promise<((rows: number) => Promise<unknown>)[]> {
  const spec = graphSpecs(bundle.manifest)[graph]
  if (spec === undefined) return []
  const session = await Session.open(await readBundleFile(bundle, spec.file), spec, {
    provider: 'cpu',
    device: 0,
    threads,
  })
  const tokens = Math.min(maxTokens, bundle.manifest.text_encoder.max_tokens)
  return [(rows) => session.run(dryRunInputs(spec, { rows, tokens }))]
}

/** Median milliseconds of each function over alternating rounds, after a warm-up round. */
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
