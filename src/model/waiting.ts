/** What waits for the model, by graph and priority, and what of it runs next. */
import type { GraphName } from './graphs.js'
import { Precedence, type Priority } from './precedence.js'

export interface Waiter {
  readonly graph: GraphName
  readonly priority: Priority
  readonly weight: number
}

interface Line<Entry> {
  entries: Set<Entry>
  weight: number
}

/** The most weight that a batch may have. */
export type Limit<Entry> = (entry: Entry) => number

export class Waiting<Entry extends Waiter> {
  /** Entries oldest first; of the graphs the one that has not had its turn for the longest comes first. */
  readonly #lines: Record<Priority, Map<GraphName, Line<Entry>>> = { interactive: lines(), bulk: lines() }
  readonly #precedence = new Precedence()
  #size = 0

  get size(): number {
    return this.#size
  }

  add(entry: Entry): void {
    const line = this.#lineOf(entry)
    line.entries.add(entry)
    line.weight += entry.weight
    this.#size += 1
  }

  /** Nothing happens where the entry does not wait any more. */
  delete(entry: Entry): void {
    const line = this.#lineOf(entry)
    if (!line.entries.delete(entry)) return
    line.weight -= entry.weight
    this.#size -= 1
  }

  /** All entries, in no order. */
  all(): Entry[] {
    return Object.values(this.#lines).flatMap((graphs) => [...graphs.values()].flatMap(({ entries }) => [...entries]))
  }

  /** What waits of one priority: the weight by graph. */
  weights(priority: Priority): [GraphName, number][] {
    return [...this.#lines[priority]].map(([graph, { weight }]) => [graph, weight])
  }

  /** Takes the next batch out: entries of one graph and priority, one at least, within the limit of the first. */
  take(limit: Limit<Entry>): Entry[] {
    const next = this.#precedence.next({ interactive: this.#waits('interactive'), bulk: this.#waits('bulk') })
    if (next === null) return []
    const graphs = this.#lines[next]
    const [graph, line] = [...graphs].find(([, { entries }]) => entries.size > 0) as [GraphName, Line<Entry>]
    graphs.delete(graph)
    graphs.set(graph, line)
    const batch: Entry[] = []
    let weight = 0
    for (const entry of line.entries) {
      weight += entry.weight
      if (batch.length > 0 && weight > limit(batch[0] as Entry)) break
      batch.push(entry)
      this.delete(entry)
    }
    return batch
  }

  #waits(priority: Priority): boolean {
    return [...this.#lines[priority].values()].some(({ entries }) => entries.size > 0)
  }

  #lineOf({ priority, graph }: Entry): Line<Entry> {
    return this.#lines[priority].get(graph) as Line<Entry>
  }
}

function lines<Entry>(): Map<GraphName, Line<Entry>> {
  return new Map((['text', 'fusion', 'image'] as const).map((graph) => [graph, { entries: new Set<Entry>(), weight: 0 }]))
}
