/** One index, measured beside the smallest: time, memory and recall of its searches. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { TopK } from '../../src/vector-index/top-k.js'
import { PackedRows } from '../../src/vector-index/packed-rows.js'
import type { VectorIndex } from '../../src/vector-index/vector-index.js'
import { median, quantile } from '../../test/soak/figures.js'
import { extended, row, type Vectors } from '../vectors.js'

/** As many as a search with rerank recalls. */
export const CANDIDATES = 64
const AT_ONCE = 2000

export interface Latency {
  p50: number
  p99: number
}

export type Search = (at: number) => Promise<unknown>

/**
 * The labels of the exact nearest of each query at each size, best first; sizes ascend, and one
 * pass serves them all.
 */
export function exactNearest(
  real: Vectors,
  queries: readonly Float32Array[],
  sizes: readonly number[],
): Map<number, number[][]> {
  const nearest = queries.map(() => new TopK(CANDIDATES))
  const truth = new Map<number, number[][]>()
  let from = 0
  for (const items of sizes) {
    while (from < items) {
      const some = extended(real, from, Math.min(AT_ONCE, items - from))
      const rows = new PackedRows(real.dim)
      for (let at = 0; at < some.count; at += 1) rows.set(at, row(some, at))
      queries.forEach((query, at) =>
        rows.compare(query, (label, similarity) => nearest[at]?.offer(from + label, similarity)),
      )
      from += some.count
    }
    truth.set(
      items,
      nearest.map((one) => one.sorted().labels),
    )
  }
  return truth
}

/** Share of the exact nearest `k` that searches for `candidates` find among their first `k`. */
export async function recallOf(
  index: VectorIndex,
  queries: readonly Float32Array[],
  truth: readonly number[][],
  k: number,
): Promise<number> {
  let found = 0
  for (const [at, query] of queries.entries()) {
    const exact = new Set(truth[at]?.slice(0, k).map((label) => `photo-${label}`))
    found += (await index.search(query, k)).filter(({ id }) => exact.has(id)).length
  }
  return found / (k * queries.length)
}

/**
 * Milliseconds of two searches, in rounds that alternate: the medians over the rounds, one search
 * at a time.
 */
export async function alternating(
  rounds: number,
  times: number,
  searches: readonly [Search, Search],
): Promise<[Latency, Latency]> {
  const taken: [Latency[], Latency[]] = [[], []]
  for (let round = -1; round < rounds; round += 1) {
    for (const side of [0, 1] as const) {
      const latency = await latencyOf(times, (at) => searches[side](round * times + at + times))
      // The first round warms up.
      if (round >= 0) taken[side].push(latency)
    }
  }
  return [medians(taken[0]), medians(taken[1])]
}

/** The longest that the event loop stood still during `work`, in milliseconds, and what it gave. */
export async function longestStandstill<Result>(
  work: () => Promise<Result>,
): Promise<[ms: number, result: Result]> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const result = await work()
  delay.disable()
  return [delay.max / 1e6, result]
}

async function latencyOf(times: number, search: Search): Promise<Latency> {
  const taken: number[] = []
  for (let at = 0; at < times; at += 1) {
    const begun = performance.now()
    await search(at)
    taken.push(performance.now() - begun)
  }
  return { p50: quantile(taken, 0.5), p99: quantile(taken, 0.99) }
}

function medians(latencies: readonly Latency[]): Latency {
  return {
    p50: median(latencies.map(({ p50 }) => p50)),
    p99: median(latencies.map(({ p99 }) => p99)),
  }
}
