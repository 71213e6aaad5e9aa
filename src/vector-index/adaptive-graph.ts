/**
 * The graph with a sample of its embeddings. If the sample is complete and an exact search costs
 * less, a search is exact. Some searches of the graph are verified against the sample afterwards,
 * which sets ef.
 */
import { closeSync, openSync } from 'node:fs'
import { AdaptiveEf } from './adaptive-ef.js'
import { embeddingsIn } from './graph-file.js'
import { HnswGraph } from './hnsw-graph.js'
import { RecallSample } from './recall-sample.js'
import type { Nearest } from './top-k.js'

/**
 * Cost of a graph search in compared rows: a minimum, and the cost per unit of ef. Measured with
 * 3,000 to 16,000 rows of 384 values; a row takes 48 ns (docs/adr/0004-vector-engine.md).
 */
const GRAPH_COST = 1500
const GRAPH_COST_PER_EF = 20
/** One of so many graph searches is verified. */
const VERIFY_EVERY = 32
/** Bound of the difference between similarities summed in another order. */
const ROUNDING = 1e-6

export interface GraphOptions {
  dim: number
  /** Share of the exact nearest that a search has to find. */
  recall: number
  /** Most embeddings in the sample. */
  sampleRows: number
}

export class AdaptiveGraph {
  readonly #dim: number
  readonly #graph: HnswGraph
  readonly #sample: RecallSample
  readonly #ef: AdaptiveEf
  #live: number
  #searches = 0

  private constructor(
    graph: HnswGraph,
    sample: RecallSample,
    { dim, recall }: GraphOptions,
    live = 0,
  ) {
    this.#dim = dim
    this.#graph = graph
    this.#sample = sample
    this.#ef = new AdaptiveEf(recall)
    this.#live = live
  }

  static empty(options: GraphOptions, capacity = 0): AdaptiveGraph {
    return new AdaptiveGraph(
      HnswGraph.empty(options.dim, capacity),
      new RecallSample(options),
      options,
    )
  }

  /** See HnswGraph.load. `deleted` has to be that of the saved graph too. */
  static load(options: GraphOptions, file: string, deleted: readonly number[]): AdaptiveGraph {
    const graph = HnswGraph.load(options.dim, file)
    const sample = new RecallSample(options, graph.count)
    const descriptor = openSync(file, 'r')
    try {
      let label = 0
      for (const embedding of embeddingsIn(descriptor, options.dim, sample.every)) {
        sample.add(label, embedding)
        label += sample.every
      }
    } finally {
      closeSync(descriptor)
    }
    for (const label of deleted) sample.delete(label)
    return new AdaptiveGraph(graph, sample, options, graph.count - deleted.length)
  }

  /** Number of labels in the graph, with those marked as deleted. */
  get count(): number {
    return this.#graph.count
  }

  /** Measured share of the exact nearest that graph searches find; null before a measurement. */
  get recall(): number | null {
    return this.#ef.recall
  }

  /**
   * @param labels - the next labels, in ascending order
   * @param packed - their normalised embeddings, concatenated
   */
  add(labels: readonly number[], packed: Float32Array): void {
    labels.forEach((label, row) =>
      this.#add(label, packed.subarray(row * this.#dim, (row + 1) * this.#dim)),
    )
  }

  markDeleted(labels: readonly number[]): void {
    this.#graph.markDeleted(labels)
    for (const label of labels) this.#sample.delete(label)
    this.#live -= labels.length
  }

  /** Adds the embeddings of the labels `from` of `source` as the labels `to`. */
  copyFrom(source: AdaptiveGraph, from: readonly number[], to: readonly number[]): void {
    to.forEach((label, at) => this.#add(label, source.#graph.embedding(from[at] as number)))
  }

  /** @param candidates - at least 1; finds all labels not marked as deleted if they are fewer */
  search(embedding: Float32Array, candidates: number): Nearest {
    const limit = Math.min(candidates, this.#live)
    if (limit === 0) return { labels: [], similarities: [] }
    const ef = this.#ef.width(limit, this.#live)
    if (this.#sample.isWhole && this.#sample.count <= GRAPH_COST + GRAPH_COST_PER_EF * ef)
      return this.#sample.search(embedding, limit)
    const found = this.#graph.search(embedding, limit, ef)
    this.#searches += 1
    // Verified after the answer is sent, so that no client waits for it.
    if (this.#searches % VERIFY_EVERY === 0) {
      const end = this.count
      setImmediate(() => this.#verify(embedding, found, end))
    }
    return found
  }

  /** See HnswGraph.save. */
  save(file: string): void {
    this.#graph.save(file)
  }

  /** See HnswGraph.free. */
  free(): void {
    this.#graph.free()
  }

  #add(label: number, embedding: Float32Array): void {
    this.#graph.add(label, embedding)
    this.#sample.add(label, embedding)
    this.#live += 1
  }

  /** A label of the sample that is nearer than the last found one, but not found, is missed. */
  #verify(embedding: Float32Array, { labels, similarities }: Nearest, end: number): void {
    const found = new Set(labels)
    const inSample = labels.filter((label) => label % this.#sample.every === 0).length
    const worst = (similarities.at(-1) as number) + ROUNDING
    const nearer = this.#sample.above(embedding, worst, end)
    this.#ef.observe(inSample, nearer.filter((label) => !found.has(label)).length)
  }
}
