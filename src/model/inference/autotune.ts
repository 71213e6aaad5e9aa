/** Finds the batch size that suits a device. */
import type { GraphKind, GraphSpec, Tensors } from '../onnx/graph-inputs.js'
import { dryRunInputs } from '../onnx/dry-run.js'

/** The maximum of a batch, by graph: images, tokens of texts, pairs. */
export type BatchLimits = Record<GraphKind, number>

/** The range of rows to try, and the clock. */
export interface Search {
  least: BatchLimits
  most: BatchLimits
  /** Tokens of each text. */
  tokens: number
  /** Milliseconds of the scarce resource of the device: wall time, or core time. */
  clock: () => number
}

/** A GPU gains from more rows than a CPU; above these maxima the transfer costs more. */
export function searchOnDevice(longestText: number): Search {
  return {
    least: { image: 8, text: 32, fusion: 64, tokens: 8 },
    most: { image: 64, text: 256, fusion: 512, tokens: 64 },
    tokens: longestText,
    clock: now,
  }
}

/** Tokens of a caption or a query, special tokens included. */
const USUAL_TOKENS = 16

/** On a CPU, rows get cheaper until they fill its caches. */
export function searchOnCpu(threads: number, longestText = USUAL_TOKENS): Search {
  // Core time ignores other processes, but counts threads that wait for each other.
  const clock = threads === 1 ? coreTime : now
  return {
    least: { image: 1, text: 16, fusion: 16, tokens: 1 },
    most: { image: 8, text: 32, fusion: 32, tokens: 8 },
    tokens: Math.min(USUAL_TOKENS, longestText),
    clock,
  }
}

/** Timed runs of a batch. */
const ROUNDS = 3

/** Doubling the rows must make a row at least 3 % cheaper. */
const MIN_GAIN = 0.97

/** The measurement of one graph. */
export interface Paces {
  /** Images, tokens of texts or pairs. */
  limit: number
  /** Milliseconds of one row in a batch of `limit`. */
  pace: number
  /** The fixed cost of a batch, in units of `limit`. */
  overhead: number
}

/**
 * Doubles the rows of a batch while it fits into memory and a row gets cheaper.
 * @throws what `run` throws for the smallest batches
 */
export async function largestBatch(
  graph: GraphKind,
  spec: GraphSpec,
  { least, most, tokens, clock }: Search,
  run: (inputs: Tensors) => Promise<unknown>,
): Promise<Paces> {
  const timed = async (rows: number): Promise<number> => {
    const inputs = dryRunInputs(spec, { rows, tokens })
    // The first run allocates memory and chooses kernels. The fastest of the others was disturbed
    // least.
    await run(inputs)
    const times: number[] = []
    for (let round = 0; round < ROUNDS; round += 1) {
      const started = clock()
      await run(inputs)
      times.push(clock() - started)
    }
    return Math.min(...times)
  }
  // A provider that compiles for a range of sizes learns the smallest one.
  await run(dryRunInputs(spec, { rows: 1, tokens: 1 }))
  const alone = await timed(1)
  let rows = least[graph]
  let pace = rows === 1 ? alone : (await timed(rows)) / rows
  while (rows < most[graph]) {
    const milliseconds = await timed(rows * 2).catch(() => Infinity)
    if (milliseconds / (rows * 2) > pace * MIN_GAIN) break
    rows *= 2
    pace = milliseconds / rows
  }
  const weight = graph === 'text' ? tokens : 1
  return { limit: rows * weight, pace, overhead: overheadOf(alone, rows, pace) * weight }
}

/** In rows, from the time of one row and of many. */
function overheadOf(alone: number, rows: number, pace: number): number {
  const more = rows === 1 ? alone : (rows * pace - alone) / (rows - 1)
  return more > 0 ? Math.max(0, alone / more - 1) : Infinity
}

/** The limits that suit all of several devices. */
export function smallestLimits(limits: readonly BatchLimits[]): BatchLimits {
  const least = (graph: GraphKind): number => Math.min(...limits.map((limit) => limit[graph]))
  return {
    image: least('image'),
    text: least('text'),
    fusion: least('fusion'),
    tokens: least('tokens'),
  }
}

function now(): number {
  return performance.now()
}

function coreTime(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}
