import { setImmediate } from 'node:timers/promises'

/** Ids between two yields to the event loop: one or two milliseconds. */
const SLICE = 4096

/** Ids of items ↔ labels of the graph. A label is used once; removing its item empties it. */
export class IdMap {
  /** Label → id; null for an empty label. */
  readonly #ids: (string | null)[] = []
  readonly #labels = new Map<string, number>()

  /** @param ids - label → id; null for an empty label */
  static async of(ids: readonly (string | null)[]): Promise<IdMap> {
    const map = new IdMap()
    for (const [at, id] of ids.entries()) {
      if (id !== null) map.#labels.set(id, map.#ids.length)
      map.#ids.push(id)
      if (at % SLICE === SLICE - 1) await setImmediate()
    }
    return map
  }

  /** Number of items. */
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

  /** Assigns the next label to `id`; its old one becomes empty. */
  append(id: string): void {
    this.release(id)
    this.#labels.set(id, this.#ids.push(id) - 1)
  }

  /** Makes the label of `id` empty. */
  release(id: string): void {
    const label = this.#labels.get(id)
    if (label === undefined) return
    this.#ids[label] = null
    this.#labels.delete(id)
  }

  /** All empty labels. */
  empty(): number[] {
    return this.#ids.flatMap((id, label) => (id === null ? [label] : []))
  }

  /** Up to `limit` labels in use, starting at `start`. */
  used(start: number, limit: number): number[] {
    const labels: number[] = []
    for (let label = start; label < this.#ids.length && labels.length < limit; label += 1) {
      if (this.#ids[label] !== null) labels.push(label)
    }
    return labels
  }

  toJSON(): readonly (string | null)[] {
    return this.#ids
  }
}
