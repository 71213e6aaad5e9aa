/** Inputs that wait for the models, by graph and priority, and the choice of the next batch. */
import type { GraphName } from '../onnx/graph-inputs.js'
import { PriorityScheduler, type Priority } from '../../async/priority.js'

export interface QueueEntry {
  readonly graph: GraphName
  readonly priority: Priority
  readonly weight: number
  /** Length of its row, to which shorter rows of a batch are padded; 0 without padding. */
  readonly rowLength?: number
}

interface Line<Entry> {
  entries: Set<Entry>
  weight: number
}

/** The maximum of a batch that starts with this entry. */
export type Limit<Entry> = (entry: Entry) => number

export class Queue<Entry extends QueueEntry> {
  /** Entries oldest first; graphs in the order of their last batch, the oldest first. */
  readonly #lines: Record<Priority, Map<GraphName, Line<Entry>>> = {
    interactive: lines(),
    bulk: lines(),
  }
  readonly #scheduler = new PriorityScheduler()
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

  /** Does nothing for an entry that no longer waits. */
  delete(entry: Entry): void {
    const line = this.#lineOf(entry)
    if (!line.entries.delete(entry)) return
    line.weight -= entry.weight
    this.#size -= 1
  }

  /** All entries, in no order. */
  all(): Entry[] {
    return Object.values(this.#lines).flatMap((graphs) =>
      [...graphs.values()].flatMap(({ entries }) => [...entries]),
    )
  }

  /** Waiting weight of one priority by graph. */
  weights(priority: Priority): [GraphName, number][] {
    return [...this.#lines[priority]].map(([graph, { weight }]) => [graph, weight])
  }

  /** Waiting weight of the priority and graph of an entry. */
  weightOf({ priority, graph }: Pick<Entry, 'priority' | 'graph'>): number {
    return this.#lineOf({ priority, graph }).weight
  }

  /**
   * Removes the next batch: at least one entry, all of one graph and priority, within the limit of
   * the first.
   * @param padding - total padding of the rows of a batch; entries that would exceed it wait
   */
  take(limit: Limit<Entry>, padding: (entry: Entry) => number = () => Infinity): Entry[] {
    const next = this.#scheduler.next({
      interactive: this.#waits('interactive'),
      bulk: this.#waits('bulk'),
    })
    if (next === null) return []
    const graphs = this.#lines[next]
    const [graph, line] = [...graphs].find(([, { entries }]) => entries.size > 0) as [
      GraphName,
      Line<Entry>,
    ]
    graphs.delete(graph)
    graphs.set(graph, line)
    const batch = joined([...line.entries], limit, padding)
    for (const entry of batch) this.delete(entry)
    return batch
  }

  #waits(priority: Priority): boolean {
    return [...this.#lines[priority].values()].some(({ entries }) => entries.size > 0)
  }

  #lineOf({ priority, graph }: Pick<Entry, 'priority' | 'graph'>): Line<Entry> {
    const graphs = this.#lines[priority]
    const line = graphs.get(graph) ?? { entries: new Set<Entry>(), weight: 0 }
    graphs.set(graph, line)
    return line
  }
}

function lines<Entry>(): Map<GraphName, Line<Entry>> {
  return new Map(
    (['text', 'fusion', 'image', 'tokens'] as const).map((graph) => [
      graph,
      { entries: new Set<Entry>(), weight: 0 },
    ]),
  )
}

/** The oldest entry and those nearest to it in length, within the weight and the padding. */
function joined<Entry extends QueueEntry>(
  [first, ...others]: Entry[],
  limit: Limit<Entry>,
  padding: Limit<Entry>,
): Entry[] {
  if (first === undefined) return []
  const [maxWeight, maxPadding] = [limit(first), padding(first)]
  const lengthOf = ({ rowLength = 0 }: Entry): number => rowLength
  const distance = (entry: Entry): number => Math.abs(lengthOf(entry) - lengthOf(first))
  const batch = [first]
  let { weight } = first
  let longest = lengthOf(first)
  let total = longest
  for (const entry of others.sort((a, b) => distance(a) - distance(b))) {
    weight += entry.weight
    longest = Math.max(longest, lengthOf(entry))
    total += lengthOf(entry)
    if (weight > maxWeight || longest * (batch.length + 1) - total > maxPadding) break
    batch.push(entry)
  }
  return batch
}
