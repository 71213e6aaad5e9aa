/**
 * Labels whose embedding is that of another label, or near it. A graph holds one node for all of
 * them: many nodes at one place would link only to each other, and searches would not leave them
 * (nmslib/hnswlib#373). Near ones keep their embeddings here and are compared exactly. A node has
 * the label of its first item.
 */
import { PackedRows } from './packed-rows.js'
import { TopK, type Nearest } from './top-k.js'

/** The labels of a node that has had a copy. */
interface Group {
  /** Labels in use with the embedding of the node. */
  same: Set<number>
  /** Ranges of the rows of near copies; those of deleted ones are empty. */
  ranges: { from: number; to: number }[]
  /** Number of labels in use. */
  size: number
}

/** For a snapshot. The embeddings of near copies are apart, one after the other. */
export interface SavedCopies {
  /** Pairs of a label and its node, one after the other, also of deleted labels. */
  pairs: readonly number[]
  /** Those of the labels that are near copies, in the order of the embeddings. */
  near: readonly number[]
}

export class Copies {
  /** Label of a copy → its node, also after the copy was deleted. */
  readonly #nodes = new Map<number, number>()
  /** Node → its labels, for nodes that have had a copy. */
  readonly #groups = new Map<number, Group>()
  /** Embeddings of near copies. */
  readonly #rows: PackedRows
  /** Row → label. */
  readonly #near: number[] = []
  /** Label of a near copy → row. */
  readonly #rowOf = new Map<number, number>()

  constructor(dim: number) {
    this.#rows = new PackedRows(dim)
  }

  /** @param embeddings - the `at`-th of `near` */
  static load(
    dim: number,
    { pairs, near }: SavedCopies,
    embeddings: (at: number) => Float32Array,
  ): Copies {
    const copies = new Copies(dim)
    const rowOf = new Map(near.map((label, row) => [label, row]))
    for (let at = 0; at < pairs.length; at += 2) {
      const label = pairs[at] as number
      const row = rowOf.get(label)
      copies.add(label, pairs[at + 1] as number, row === undefined ? null : embeddings(row))
    }
    return copies
  }

  /** Number of copies, with the deleted ones. */
  get count(): number {
    return this.#nodes.size
  }

  /** Number of near copies, with the deleted ones. */
  get nearCount(): number {
    return this.#near.length
  }

  nodeOf(label: number): number {
    return this.#nodes.get(label) ?? label
  }

  has(label: number): boolean {
    return this.#nodes.has(label)
  }

  /** The embedding of a near copy that is in use; null for other labels. */
  embedding(label: number): Float32Array | null {
    const row = this.#rowOf.get(label)
    return row === undefined ? null : this.#rows.get(row)
  }

  /**
   * @param node - its own label is in use, or it has other copies
   * @param embedding - null for that of the node
   */
  add(label: number, node: number, embedding: Float32Array | null): void {
    this.#nodes.set(label, node)
    const group = this.#groups.get(node) ?? { same: new Set([node]), ranges: [], size: 1 }
    this.#groups.set(node, group)
    group.size += 1
    if (embedding === null) group.same.add(label)
    else this.#addRow(group, label, embedding)
  }

  /** Whether the node of the deleted label has no other label in use. */
  delete(label: number): boolean {
    const group = this.#groups.get(this.nodeOf(label))
    if (group === undefined) return true
    const row = this.#rowOf.get(label)
    if (row === undefined) group.same.delete(label)
    else this.#rows.empty(row)
    group.size -= 1
    return group.size === 0
  }

  /** Replaces each node by its labels in use; at most `limit` of them, best first. */
  expand(query: Float32Array, { labels: nodes, similarities }: Nearest, limit: number): Nearest {
    if (nodes.length <= limit && !nodes.some((node) => this.#groups.has(node)))
      return { labels: nodes, similarities }
    const topK = new TopK(limit)
    nodes.forEach((node, at) => {
      const similarity = similarities[at] as number
      const { same = [node], ranges = [] } = this.#groups.get(node) ?? {}
      for (const label of same) topK.offer(label, similarity)
      for (const range of ranges)
        this.#rows.compare(query, (row, near) => topK.offer(this.#near[row] as number, near), range)
    })
    return topK.sorted()
  }

  /** For a snapshot. */
  saved(): SavedCopies {
    return { pairs: [...this.#nodes].flat(), near: [...this.#near] }
  }

  /** The embeddings of near copies, in the order of `saved().near`; those of deleted are NaN. */
  *embeddings(): Iterable<Float32Array> {
    for (let row = 0; row < this.#near.length; row += 1) yield this.#rows.get(row)
  }

  #addRow(group: Group, label: number, embedding: Float32Array): void {
    const row = this.#near.push(label) - 1
    this.#rowOf.set(label, row)
    this.#rows.set(row, embedding)
    const last = group.ranges.at(-1)
    if (last?.to === row) last.to += 1
    else group.ranges.push({ from: row, to: row + 1 })
  }
}
