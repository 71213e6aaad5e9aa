import { setImmediate } from 'node:timers/promises'

/** Ids taken in one go, a millisecond or two; requests go on between. */
const SLICE = 4096

/**
 * Ids of items ↔ labels of the graph. A label is used once; a replaced or removed item leaves its
 * label empty.
 */
export class IdMap {
  /** Label → id; null where the label is empty. */
  readonly #ids: (string | null)[] = []
  readonly #labels = new Map<string, number>()

  /** @param ids - label → id; null where the label is empty */
  static async of(ids: readonly (string | null)[]): Promise<IdMap> {
    const labels = new IdMap()
    for (const [at, id] of ids.entries()) {
      if (id !== null) labels.#labels.set(id, labels.#ids.length)
      labels.#ids.push(id)
      if (at % SLICE === SLICE - 1) await setImmediate()
    }
    return labels
  }

  /** Items that have a label. */
  get size(): number {
    return this.#labels.size
  }

  /** Number of labels assigned so far, with the empty ones; also the next label. */
  get count(): number {
    return this.#ids.length
  }

  idOf(label: number): string | null {
    return this.#ids[label] ?? null
  }

  labelOf(id: string): number | undefined {
    return this.#labels.get(id)
  }

  ids(): Iterable<string> {
    return this.#labels.keys()
  }

  /** Gives `id` the next label, leaving its old one empty. */
  append(id: string): void {
    this.release(id)
    this.#labels.set(id, this.#ids.push(id) - 1)
  }

  /** Leaves the label of `id` empty. */
  release(id: string): void {
    const label = this.#labels.get(id)
    if (label === undefined) return
    this.#ids[label] = null
    this.#labels.delete(id)
  }

  /** The labels that are empty. */
  empty(): number[] {
    return this.#ids.flatMap((id, label) => (id === null ? [label] : []))
  }

  /** Up to `limit` labels in use, from `start` on. */
  used(start: number, limit: number): number[] {
    const found: number[] = []
    for (let label = start; label < this.#ids.length && found.length < limit; label += 1) {
      if (this.#ids[label] !== null) found.push(label)
    }
    return found
  }

  toJSON(): readonly (string | null)[] {
    return this.#ids
  }
}
