/**
 * Labels whose embedding is that of another label. A graph holds one node for all of them: many
 * nodes at one place would link only to each other, and searches would not leave them
 * (nmslib/hnswlib#373). A node has the label of its first item.
 */
import type { Nearest } from './top-k.js'

export class Copies {
  /** Label of a copy → its node, also after the copy was deleted. */
  readonly #nodes = new Map<number, number>()
  /** Node → labels in use, for nodes that have had a copy. */
  readonly #labels = new Map<number, Set<number>>()

  /** Number of copies, with the deleted ones. */
  get count(): number {
    return this.#nodes.size
  }

  nodeOf(label: number): number {
    return this.#nodes.get(label) ?? label
  }

  has(label: number): boolean {
    return this.#nodes.has(label)
  }

  /** @param node - its own label is in use, or it has other copies */
  add(label: number, node: number): void {
    this.#nodes.set(label, node)
    const labels = this.#labels.get(node)
    if (labels === undefined) this.#labels.set(node, new Set([node, label]))
    else labels.add(label)
  }

  /** Whether the node of the deleted label has no other label in use. */
  delete(label: number): boolean {
    const node = this.nodeOf(label)
    const labels = this.#labels.get(node)
    if (labels === undefined) return true
    return labels.delete(label) && labels.size === 0
  }

  /** Replaces each node by its labels in use; at most `limit` of them. */
  expand({ labels: nodes, similarities }: Nearest, limit: number): Nearest {
    if (this.#labels.size === 0) return { labels: nodes, similarities }
    const expanded: Nearest = { labels: [], similarities: [] }
    nodes.forEach((node, at) => {
      for (const label of this.#labels.get(node) ?? [node]) {
        if (expanded.labels.length === limit) return
        expanded.labels.push(label)
        expanded.similarities.push(similarities[at] as number)
      }
    })
    return expanded
  }

  /** Pairs of a label and its node, one after the other. */
  toJSON(): number[] {
    return [...this.#nodes].flat()
  }

  /** @param pairs - as `toJSON` gave them */
  static of(pairs: readonly number[]): Copies {
    const copies = new Copies()
    for (let at = 0; at < pairs.length; at += 2)
      copies.add(pairs[at] as number, pairs[at + 1] as number)
    return copies
  }
}
