/** The most that one batch takes, by graph: images, tokens of texts, pairs. */
import type { GraphName, GraphSpec, Tensors } from '../onnx/graph-inputs.js'
import { dryRunInputs } from '../onnx/dry-run.js'

export type BatchLimits = Record<GraphName, number>

/** Between which numbers of rows the best one is looked for, and how. */
export interface Search {
  least: BatchLimits
  most: BatchLimits
  /** In each text. */
  tokens: number
  /** Milliseconds of what is short on that device: time, or the time of a core. */
  clock: () => number
}

/**
 * A GPU gets faster by more rows than any CPU; above these the way there and back costs more than
 * the run.
 */
export function searchOnDevice(longestText: number): Search {
  return {
    least: { image: 8, text: 32, fusion: 64 },
    most: { image: 64, text: 256, fusion: 512 },
    tokens: longestText,
    clock: now,
  }
}

/** As many tokens as a caption or a query has, with those that mark its ends. */
const USUAL_TOKENS = 16

/**
 * On a CPU rows get cheaper until they fill its caches. What other processes take of the cores must
 * not count.
 */
export function searchOnCpu(threads: number): Search {
  // Threads that wait for one another spend core time, too.
  const clock = threads === 1 ? coreTime : now
  return {
    least: { image: 1, text: 16, fusion: 16 },
    most: { image: 8, text: 32, fusion: 32 },
    tokens: USUAL_TOKENS,
    clock,
  }
}

/** Runs of a batch that are timed. */
const TIMED = 3

/** A batch of twice the rows has to make a row this much cheaper to be worth what waits for it. */
const WORTH = 0.97

/** What was found of one graph. */
export interface Paces {
  /** Images, tokens of texts or pairs. */
  limit: number
  /** Milliseconds of a row in such a batch. */
  pace: number
  /** As many of what `limit` counts take as long as it costs to run a batch at all. */
  overhead: number
}

/**
 * How many rows suit a device, found by trying: they are doubled while a batch of them runs, which
 * means that the memory holds it, and while a row gets cheaper by it.
 *
 * @throws what `run` throws for the smallest batches
 */
export async function largestBatch(
  graph: GraphName,
  spec: GraphSpec,
  { least, most, tokens, clock }: Search,
  run: (inputs: Tensors) => Promise<unknown>,
): Promise<Paces> {
  const timed = async (rows: number): Promise<number> => {
    const inputs = dryRunInputs(spec, { rows, tokens })
    // The first run takes the memory and chooses kernels; of those like the ones to come the
    // quickest was disturbed least.
    await run(inputs)
    const times: number[] = []
    for (let round = 0; round < TIMED; round += 1) {
      const started = clock()
      await run(inputs)
      times.push(clock() - started)
    }
    return Math.min(...times)
  }
  // A provider that compiles for the sizes that it has seen has the smallest then, and all between.
  await run(dryRunInputs(spec, { rows: 1, tokens: 1 }))
  const alone = await timed(1)
  let rows = least[graph]
  let pace = rows === 1 ? alone : (await timed(rows)) / rows
  while (rows < most[graph]) {
    const milliseconds = await timed(rows * 2).catch(() => Infinity)
    if (milliseconds / (rows * 2) > pace * WORTH) break
    rows *= 2
    pace = milliseconds / rows
  }
  const weight = graph === 'text' ? tokens : 1
  return { limit: rows * weight, pace, overhead: overheadOf(alone, rows, pace) * weight }
}

/** In rows, from how long one takes and how long many do. */
function overheadOf(alone: number, rows: number, pace: number): number {
  const more = rows === 1 ? alone : (rows * pace - alone) / (rows - 1)
  return more > 0 ? Math.max(0, alone / more - 1) : Infinity
}

/** What fits every one of several devices. */
export function smallestLimits(limits: readonly BatchLimits[]): BatchLimits {
  const least = (graph: GraphName): number => Math.min(...limits.map((limit) => limit[graph]))
  return { image: least('image'), text: least('text'), fusion: least('fusion') }
}

function now(): number {
  return performance.now()
}

function coreTime(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}
