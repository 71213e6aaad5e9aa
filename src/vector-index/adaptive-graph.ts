/**
 * The graph with a sample of its embeddings. If the sample is complete and an exact search costs
 * less, a search is exact. Some searches of the graph are verified against the sample afterwards,
 * which sets ef.
 */
import { closeSync, openSync } from 'node:fs'
import { AdaptiveEf } from './adaptive-ef.js'
import { Copies } from './copies.js'
import { embeddingReader } from './graph-file.js'
import { HnswGraph } from './hnsw-graph.js'
import { RecallSample } from './recall-sample.js'
import type { Nearest } from './top-k.js'

/**
 * Cost of a graph search in compared rows: a minimum, and the cost per unit of ef. Measured with
 * 3,000 to 16,000 rows of 384 values; a row takes 48 ns (docs/adr/0004-vector-engine.md).
 */
const GRAPH_COST = 1500
const GRAPH_COST_PER_EF = 20
/** Graph searches for each verified one, before the first measurement of recall and after it. */
const VERIFY_EVERY_AT_FIRST = 4
const VERIFY_EVERY = 32
/**
 * Largest difference in a value of two embeddings of one image: batches of other sizes sum in
 * another order. The similarities of such a copy are those of the first one, within 2e-5.
 */
const COPY_TOLERANCE = 1e-6
/**
 * Cosine of near copies, as one photo has that was saved at several qualities. Of 8,000 photos none
 * has another with .95 (tandem-small).
 */
const NEAR_COPY = 0.96
/** Width of the search for the node of a copy. A copy that is not found becomes a node. */
const COPY_EF = 32
/** Nodes of a loaded graph that are looked at, and the share of near copies that is too high. */
const PROBES = 1000
const CROWDED = 0.005
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
  readonly #copies: Copies
  /** Labels and nodes that are not deleted. */
  #live: number
  #liveNodes: number
  #searches = 0

  private constructor(
    graph: HnswGraph,
    sample: RecallSample,
    { dim, recall }: GraphOptions,
    copies = new Copies(dim),
  ) {
    this.#dim = dim
    this.#graph = graph
    this.#sample = sample
    this.#ef = new AdaptiveEf(recall)
    this.#copies = copies
    this.#live = this.count
    this.#liveNodes = graph.count
  }

  static empty(options: GraphOptions, capacity = 0): AdaptiveGraph {
    return new AdaptiveGraph(
      HnswGraph.empty(options.dim, capacity),
      new RecallSample(options),
      options,
    )
  }

  /** See HnswGraph.load. `deleted` and `copies` have to be those of the saved graph too. */
  static load(
    options: GraphOptions,
    file: string,
    deleted: readonly number[],
    copies: Copies,
  ): AdaptiveGraph {
    const graph = HnswGraph.load(options.dim, file)
    const count = graph.count + copies.count
    const sample = new RecallSample(options, count)
    const descriptor = openSync(file, 'r')
    try {
      const embeddingOf = embeddingReader(descriptor, options.dim)
      const elements = elementsOf(count, copies)
      for (let label = 0; label < count; label += sample.every)
        sample.add(label, copies.embedding(label) ?? embeddingOf(elements[label] as number))
    } finally {
      closeSync(descriptor)
    }
    const loaded = new AdaptiveGraph(graph, sample, options, copies)
    // The graph has the marks of its nodes already.
    for (const label of deleted) loaded.#forget(label)
    return loaded
  }

  /** Number of labels, with those marked as deleted. */
  get count(): number {
    return this.#graph.count + this.#copies.count
  }

  /** For the snapshot; see Copies. */
  get copies(): Copies {
    return this.#copies
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
    for (const label of labels)
      if (this.#forget(label)) this.#graph.markDeleted([this.#copies.nodeOf(label)])
  }

  /** Adds the embeddings of the labels `from` of `source` as the labels `to`. */
  copyFrom(source: AdaptiveGraph, from: readonly number[], to: readonly number[]): void {
    to.forEach((label, at) => this.#add(label, source.#embedding(from[at] as number)))
  }

  /** @param candidates - at least 1; finds all labels not marked as deleted if they are fewer */
  search(embedding: Float32Array, candidates: number): Nearest {
    const limit = Math.min(candidates, this.#live)
    if (limit === 0) return { labels: [], similarities: [] }
    const ef = this.#ef.width(limit, this.#live)
    if (this.#sample.isWhole && this.#sample.count <= GRAPH_COST + GRAPH_COST_PER_EF * ef)
      return this.#sample.search(embedding, limit)
    // A near copy can be nearer than its node: all nodes that are found are expanded.
    const width = this.#copies.nearCount > 0 ? ef : limit
    const nodes = this.#graph.search(embedding, Math.min(width, this.#liveNodes), ef)
    const found = this.#copies.expand(embedding, nodes, limit)
    this.#searches += 1
    // Verified after the answer is sent, so that no client waits for it.
    if (this.#searches % (this.recall === null ? VERIFY_EVERY_AT_FIRST : VERIFY_EVERY) === 0) {
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

  /**
   * Whether many nodes are near copies of another, as in graphs of earlier versions. A compaction
   * joins them.
   * @param deleted - labels marked as deleted
   */
  isCrowded(deleted: readonly number[]): boolean {
    const every = Math.max(1, Math.floor(this.count / PROBES))
    const unused = new Set(deleted)
    let probes = 0
    let near = 0
    for (let label = 0; label < this.count && this.#liveNodes > 1; label += every) {
      if (this.#copies.has(label) || unused.has(label)) continue
      const { similarities } = this.#graph.search(this.#graph.embedding(label), 2, COPY_EF)
      probes += 1
      if ((similarities[1] ?? 0) >= NEAR_COPY) near += 1
    }
    return near > CROWDED * probes
  }

  #add(label: number, embedding: Float32Array): void {
    const node = this.#nodeNear(embedding)
    const same = node === null ? null : this.#ifSame(embedding, node)
    if (node === null) {
      this.#graph.add(label, embedding)
      this.#liveNodes += 1
    } else this.#copies.add(label, node, same === null ? embedding : null)
    this.#sample.add(label, same ?? embedding)
    this.#live += 1
  }

  /** The node with this embedding or one near it; null if there is none. */
  #nodeNear(embedding: Float32Array): number | null {
    if (this.#liveNodes === 0) return null
    const { labels, similarities } = this.#graph.search(embedding, 1, COPY_EF)
    return (similarities[0] ?? 0) >= NEAR_COPY ? (labels[0] as number) : null
  }

  /** The embedding of the node if it equals the other; otherwise null. */
  #ifSame(embedding: Float32Array, node: number): Float32Array | null {
    const other = this.#graph.embedding(node)
    const isSame = embedding.every(
      (value, at) => Math.abs(value - (other[at] as number)) <= COPY_TOLERANCE,
    )
    return isSame ? other : null
  }

  #embedding(label: number): Float32Array {
    return this.#copies.embedding(label) ?? this.#graph.embedding(this.#copies.nodeOf(label))
  }

  /** Whether the node of the deleted label has none left. */
  #forget(label: number): boolean {
    this.#sample.delete(label)
    this.#live -= 1
    const isEmpty = this.#copies.delete(label)
    if (isEmpty) this.#liveNodes -= 1
    return isEmpty
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

/** Label → element of the saved graph. Elements are the labels that are no copies, in order. */
function elementsOf(count: number, copies: Copies): Uint32Array {
  const elements = new Uint32Array(count)
  let element = 0
  for (let label = 0; label < count; label += 1) {
    const isNode = !copies.has(label)
    elements[label] = isNode ? element : (elements[copies.nodeOf(label)] as number)
    if (isNode) element += 1
  }
  return elements
}
