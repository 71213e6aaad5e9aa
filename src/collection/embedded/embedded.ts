/**
 * The embedded collection: an item store and a vector index of this process, and one writer that
 * orders all changes. The item store is the truth; the index is repaired from it. Another bundle
 * may stand by.
 */
import type { Collection, Items, Put, Visit } from '../collection.js'
import type { NewItem } from '../../item-store/item-store.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'
import type { WorkerStatus } from '../../worker/worker-process.js'
import { filteredRecall } from './filtered-recall.js'
import { FilteredSets } from './filtered-sets.js'
import { repairIndex } from './repair.js'
import { Serving, type Rooms } from './serving.js'
import { Standby, type BundleShelf } from './reembedder.js'
import { Upkeep } from './maintenance.js'
import { Writer } from './write-groups.js'

export class EmbeddedCollection implements Collection {
  readonly upkeep: Upkeep
  readonly engine = null
  readonly #serving: Serving
  readonly #writer: Writer
  readonly #standby: Standby
  readonly #filtered = new FilteredSets()
  /** Up to which change of the store the snapshot of an index is complete. */
  readonly #saved = new WeakMap<VectorIndex, number>()

  readonly #onClosed: () => Promise<void>

  constructor(
    rooms: Rooms,
    shelf: BundleShelf,
    onClosed: () => Promise<void> = () => Promise.resolve(),
  ) {
    this.#onClosed = onClosed
    this.#serving = new Serving(rooms)
    this.#writer = new Writer(this.#serving)
    this.#standby = new Standby(this.#serving, this.#writer, shelf)
    this.upkeep = new Upkeep(this.#serving, this.#writer, this.#standby)
    this.#saved.set(rooms.index, rooms.index.position)
  }

  enter(): Visit {
    const serving = this.#serving
    const visit = serving.enter()
    const { rooms } = visit
    const isOutdated = (): boolean => serving.rooms !== rooms
    return {
      models: rooms.models,
      items: itemsOf(rooms, isOutdated, this.#filtered),
      get isOutdated() {
        return isOutdated()
      },
      [Symbol.dispose]: () => visit[Symbol.dispose](),
    }
  }

  put(item: NewItem, fingerprint: string): Promise<Put> {
    return this.#writer.add(item, fingerprint)
  }

  remove(id: string): Promise<boolean> {
    return this.#writer.remove(id)
  }

  /** Repairs the index from the store. */
  start(onProgress?: (replayed: number) => void): Promise<{ replayed: number; removed: number }> {
    const { index, store } = this.#serving.rooms
    return repairIndex(store, index, onProgress)
  }

  get workers(): readonly WorkerStatus[] {
    const { models, index } = this.#serving.rooms
    return [...models.workers, ...index.workers]
  }

  /**
   * Writes the index's snapshot if anything changed, so that the next start has less to repair.
   * Takes its turn among the writes: to wait for their end would be to wait for ever where they do
   * not cease.
   */
  async save(): Promise<void> {
    for (const rooms of [this.#serving.rooms, this.#standby.rooms]) {
      if (
        rooms === null ||
        rooms.index.lost ||
        rooms.index.position === this.#saved.get(rooms.index)
      )
        continue
      const { position } = rooms.index
      await rooms.index.save()
      this.#saved.set(rooms.index, position)
    }
  }

  /**
   * Waits for writes, saves the index and closes the rooms in the reverse order of their opening.
   */
  async close(): Promise<void> {
    try {
      await this.#writer.settled()
      await this.save()
    } finally {
      await this.#closeRooms().finally(this.#onClosed)
    }
  }

  async #closeRooms(): Promise<void> {
    await this.#standby.close()
    const { models, index, store } = this.#serving.rooms
    await index.close()
    await store.close()
    await models.close()
  }
}

/**
 * Store and index as the pipeline asks for them; a read of the store is done before its promise is
 * there.
 */
function itemsOf(
  { index, store }: Rooms,
  isOutdated: () => boolean,
  filtered: FilteredSets,
): Items {
  return {
    recall: (embedding, candidates, { filter, signal } = {}) =>
      filter === undefined
        ? index.search(embedding, candidates)
        : filteredRecall({ index, store }, filtered, { filter, embedding, candidates, signal }),
    getMany: (ids) => promised(() => store.getMany(ids)),
    // The bundle that serves has encoded every item as it is; of another one's, the encodings tell.
    payloads: (ids) =>
      promised(() => ids.map((id) => (isOutdated() ? store.get(id)?.payload : store.payload(id)))),
    image: (id) => promised(() => store.image(id)),
    list: ({ after, limit }) =>
      promised(() => store.list({ limit, ...(after === undefined ? {} : { after }) })),
    get size() {
      return store.size
    },
  }
}

/** What the read throws, the promise is rejected with. */
function promised<Value>(read: () => Value): Promise<Value> {
  return new Promise((resolve) => resolve(read()))
}
