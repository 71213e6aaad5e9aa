/**
 * The graph, and a sample of its embeddings. While the sample is all of them, a search is exact
 * where that costs less; of the searches of the graph some are held against the sample afterwards,
 * and how widely it is searched follows from that.
 */
import { closeSync, openSync } from 'node:fs'
import { AdaptiveEf } from './adaptive-ef.js'
import { embeddingsIn } from './graph-file.js'
import { HnswGraph } from './hnsw-graph.js'
import type { Nearest } from './top-k.js'
import { RecallSample } from './recall-sample.js'

/**
 * What a search of the graph costs, in rows compared: so much at the least, and so much for each
 * unit of ef. From one measurement of 3,000 to 16,000 rows of 384 values; a row takes 48 ns
 * (docs/adr/0004-vector-engine.md).
 */
const GRAPH_COST = 1500
const GRAPH_COST_OF_EF = 20
/** Of the searches of the graph, one in so many is verified. */
const VERIFIED = 32
/** Two ways to sum a similarity up differ by less. */
const ROUNDING = 1e-6

export interface GraphOptions {
  dim: number
  /** Share of the exact nearest that a search has to find. */
  recall: number
  /** Embeddings in the sample, at most. */
  sampleRows: number
}

export class AdaptiveGraph {
  readonly #dim: number
  readonly #graph: HnswGraph
  readonly #sample: RecallSample
  readonly #beam: AdaptiveEf
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
    this.#beam = new AdaptiveEf(recall)
    this.#live = live
  }

  static empty(options: GraphOptions, capacity = 0): AdaptiveGraph {
    return new AdaptiveGraph(
      HnswGraph.empty(options.dim, capacity),
      new RecallSample(options),
      options,
    )
  }

  /**
   * The graph that `save` wrote; dimensions and deleted labels must be known to be its own, since
   * wrong ones go unnoticed.
   */
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

  /**
   * Share of the exact nearest that searches of the graph have been found to find; null while too
   * few have been verified.
   */
  get recall(): number | null {
    return this.#beam.recall
  }

  /**
   * @param labels - the next ones, in ascending order
   * @param packed - one normalised embedding after the other, in the order of `labels`
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

  /** Adds the embeddings that `source` has under `from`, under `to`. */
  copyFrom(source: AdaptiveGraph, from: readonly number[], to: readonly number[]): void {
    to.forEach((label, at) => this.#add(label, source.#graph.embedding(from[at] as number)))
  }

  /**
   * @param candidates - at least 1; of fewer labels, all that are not marked as deleted are found
   */
  search(embedding: Float32Array, candidates: number): Nearest {
    const limit = Math.min(candidates, this.#live)
    if (limit === 0) return { labels: [], similarities: [] }
    const ef = this.#beam.width(limit, this.#live)
    if (this.#sample.isWhole && this.#sample.count <= GRAPH_COST + GRAPH_COST_OF_EF * ef)
      return this.#sample.search(embedding, limit)
    const found = this.#graph.search(embedding, limit, ef)
    this.#searches += 1
    // After the answer has been sent: whoever asked does not wait for it.
    if (this.#searches % VERIFIED === 0) {
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

  /** What the sample holds below `end` that belongs among what was found counts as missed. */
  #verify(embedding: Float32Array, { labels, similarities }: Nearest, end: number): void {
    const found = new Set(labels)
    const inSample = labels.filter((label) => label % this.#sample.every === 0).length
    let missed = 0
    const worst = (similarities.at(-1) as number) + ROUNDING
    this.#sample.above(embedding, worst, end, (label) => (missed += found.has(label) ? 0 : 1))
    this.#beam.judge(inSample, missed)
  }
}
