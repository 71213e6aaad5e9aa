/**
 * The rooms that serve. A change of bundle swaps them as a whole: who has entered stays in the
 * rooms of that moment until the end, and only when the last one has left may they be closed.
 */
import type { ItemStore } from '../../item-store/item-store.js'
import type { Models } from '../../model/models.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'

/** The open rooms of one bundle. Two bundles share what is behind their stores. */
export interface Rooms {
  models: Models
  index: VectorIndex
  store: ItemStore
}

export interface Visit extends Disposable {
  readonly rooms: Rooms
}

export class Serving {
  #rooms: Rooms
  readonly #visitors = new Map<Rooms, number>()
  /** Called when the last visitor of the rooms has left. */
  readonly #emptied = new Map<Rooms, () => void>()

  constructor(rooms: Rooms) {
    this.#rooms = rooms
  }

  /** As they are now. Who awaits anything while working with them has to `enter`. */
  get rooms(): Rooms {
    return this.#rooms
  }

  /** The rooms of now, kept open until the visit is disposed of. */
  enter(): Visit {
    const rooms = this.#rooms
    this.#visitors.set(rooms, this.#count(rooms) + 1)
    return { rooms, [Symbol.dispose]: () => this.#leave(rooms) }
  }

  /** Who enters from now on comes into `rooms`. */
  swap(rooms: Rooms): void {
    this.#rooms = rooms
  }

  /** Resolves when nobody is in `rooms`, which must not be those that serve. */
  async empty(rooms: Rooms): Promise<void> {
    if (this.#count(rooms) === 0) return
    await new Promise<void>((resolve) => this.#emptied.set(rooms, resolve))
  }

  #count(rooms: Rooms): number {
    return this.#visitors.get(rooms) ?? 0
  }

  #leave(rooms: Rooms): void {
    const left = this.#count(rooms) - 1
    if (left > 0) {
      this.#visitors.set(rooms, left)
      return
    }
    this.#visitors.delete(rooms)
    this.#emptied.get(rooms)?.()
    this.#emptied.delete(rooms)
  }
}
