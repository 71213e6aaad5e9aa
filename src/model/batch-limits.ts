/** The most rows in one batch, by graph: images, texts, pairs. */
import type { GraphName, GraphSpec, Tensors } from './graphs.js'
import { madeInputs } from './trial.js'

export type BatchLimits = Record<GraphName, number>

/** Those of a CPU, where more rows make none of them cheaper; on a GPU they have to fit. */
export const LEAST_LIMITS: Readonly<BatchLimits> = { image: 8, text: 32, fusion: 64 }
/** Above it the way to the process of the graphs and back costs more than the run. */
const MOST_TIMES = 8
/** A batch of twice the rows has to make a row this much cheaper to be worth what waits for it. */
const WORTH = 0.95

/**
 * How many rows suit a device of which nobody but the runtime knows the memory, found by trying: they are doubled while a
 * batch of them runs, which means that the memory holds it, and while a row gets cheaper by it.
 *
 * @param tokens - of the longest text
 * @throws what `run` throws for the smallest batches
 */
export async function largestBatch(
  graph: GraphName,
  spec: GraphSpec,
  tokens: number,
  run: (inputs: Tensors) => Promise<unknown>,
): Promise<number> {
  const timed = async (rows: number): Promise<number> => {
    const inputs = madeInputs(spec, { rows, tokens })
    // The first run takes the memory and chooses kernels; the second one is like those to come.
    await run(inputs)
    const started = performance.now()
    await run(inputs)
    return performance.now() - started
  }
  // A provider that compiles for the sizes that it has seen has the smallest then, and all between.
  await run(madeInputs(spec, { rows: 1, tokens: 1 }))
  const least = LEAST_LIMITS[graph]
  let rows = least
  let pace = (await timed(rows)) / rows
  while (rows < least * MOST_TIMES) {
    const milliseconds = await timed(rows * 2).catch(() => Infinity)
    if (milliseconds / (rows * 2) > pace * WORTH) break
    rows *= 2
    pace = milliseconds / rows
  }
  return rows
}

/** What fits every one of several devices. */
export function leastOf(limits: readonly BatchLimits[]): BatchLimits {
  const least = (graph: GraphName): number => Math.min(...limits.map((limit) => limit[graph]))
  return { image: least('image'), text: least('text'), fusion: least('fusion') }
}
