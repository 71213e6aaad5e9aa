/** Inputs that wait for the models, by graph and priority, and the choice of the next batch. */
import { FairTurns } from '../../async/fair-turns.js'
import type { GraphName } from '../onnx/graph-inputs.js'
import { PriorityScheduler, type Priority } from '../../async/priority.js'

export interface QueueEntry {
  readonly graph: GraphName
  readonly priority: Priority
  readonly weight: number
  /** Entries without one count as those of one client. */
  readonly client?: string | undefined
  /** Length of its row, to which shorter rows of a batch are padded; 0 without padding. */
  readonly rowLength?: number
}

interface Line<Entry> {
  entries: Set<Entry>
  weight: number
}

/** A number that follows from an entry, such as the maximum of a batch that starts with it. */
export type Measure<Entry> = (entry: Entry) => number

export class Queue<Entry extends QueueEntry> {
  /** Entries oldest first; graphs in the order of their last batch, the oldest first. */
  readonly #lines: Record<Priority, Map<GraphName, Line<Entry>>> = {
    interactive: lines(),
    bulk: lines(),
  }
  readonly #scheduler = new PriorityScheduler()
  readonly #turns = new FairTurns()
  readonly #cost: Measure<Entry>
  #size = 0

  /** @param cost - of running an entry, by which clients take turns; its weight by default */
  constructor(cost: Measure<Entry> = ({ weight }) => weight) {
    this.#cost = cost
  }

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
    return [...this.waiting('interactive'), ...this.waiting('bulk')]
  }

  /** The entries of one priority, in no order. */
  *waiting(priority: Priority): Iterable<Entry> {
    for (const { entries } of this.#lines[priority].values()) yield* entries
  }

  /** Waiting weight of the priority and graph of an entry. */
  weightOf({ priority, graph }: Pick<Entry, 'priority' | 'graph'>): number {
    return this.#lineOf({ priority, graph }).weight
  }

  /**
   * Removes the next batch: at least one entry, all of one graph and priority, within the limit of
   * the first, which is the oldest of the client whose turn it is.
   * @param padding - total padding of the rows of a batch; entries that would exceed it wait
   */
  take(limit: Measure<Entry>, padding: Measure<Entry> = () => Infinity): Entry[] {
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
    const first = this.#first(line.entries)
    this.#turns.begin(first.client ?? '')
    const batch = joined(first, line.entries, limit, padding)
    for (const entry of batch) {
      this.delete(entry)
      this.#turns.charge(entry.client ?? '', this.#cost(entry))
    }
    if (this.#size === 0) this.#turns.reset()
    return batch
  }

  #first(entries: ReadonlySet<Entry>): Entry {
    let [first] = entries as ReadonlySet<Entry> & [Entry]
    for (const entry of entries)
      if (this.#turns.beginOf(entry.client ?? '') < this.#turns.beginOf(first.client ?? ''))
        first = entry
    return first
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

/**
 * The first entry and others within the weight and the padding: those of its client first, since
 * the turn is theirs, and those nearest to it in length.
 */
function joined<Entry extends QueueEntry>(
  first: Entry,
  entries: ReadonlySet<Entry>,
  limit: Measure<Entry>,
  padding: Measure<Entry>,
): Entry[] {
  const others = [...entries].filter((entry) => entry !== first)
  const [maxWeight, maxPadding] = [limit(first), padding(first)]
  const lengthOf = ({ rowLength = 0 }: Entry): number => rowLength
  const isForeign = ({ client }: Entry): number => Number(client !== first.client)
  const distance = (entry: Entry): number => Math.abs(lengthOf(entry) - lengthOf(first))
  const byTurn = (a: Entry, b: Entry): number =>
    isForeign(a) - isForeign(b) || distance(a) - distance(b)
  const batch = [first]
  let { weight } = first
  let longest = lengthOf(first)
  let total = longest
  for (const entry of others.sort(byTurn)) {
    weight += entry.weight
    longest = Math.max(longest, lengthOf(entry))
    total += lengthOf(entry)
    if (weight > maxWeight || longest * (batch.length + 1) - total > maxPadding) break
    batch.push(entry)
  }
  return batch
}
