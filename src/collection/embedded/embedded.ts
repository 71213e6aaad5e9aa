/**
 * The embedded collection: an item store and a vector index in this process. The store is the
 * truth; the index is repaired from it. All writes pass one queue.
 */
import type { NewItem } from '../../item-store/item-store.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'
import type { WorkerStatus } from '../../worker/worker-process.js'
import type {
  CallContext,
  Collection,
  Items,
  Lease,
  PutCondition,
  PutOutcome,
} from '../collection.js'
import type { BundleCatalog } from './bundle-catalog.js'
import { filteredRecall } from './filtered-recall.js'
import { FilteredSets } from './filtered-sets.js'
import type { Generation } from './generation.js'
import { EmbeddedMaintenance } from './maintenance.js'
import { EmbeddedReembedder } from './reembedder.js'
import { repairIndex } from './repair.js'
import { Serving } from './serving.js'
import { WriteGroups } from './write-groups.js'

export class EmbeddedCollection implements Collection {
  readonly maintenance: EmbeddedMaintenance
  readonly engine = null
  readonly #serving: Serving
  readonly #writes: WriteGroups
  readonly #reembedder: EmbeddedReembedder
  readonly #filtered = new FilteredSets()
  /** The position up to which the snapshot of an index is complete. */
  readonly #saved = new WeakMap<VectorIndex, number>()
  readonly #onClosed: () => Promise<void>

  /**
   * @param generation - the serving one; closed with the collection
   * @param onClosed - called after that
   */
  constructor(
    generation: Generation,
    catalog: BundleCatalog,
    onClosed: () => Promise<void> = () => Promise.resolve(),
  ) {
    this.#onClosed = onClosed
    this.#serving = new Serving(generation)
    this.#writes = new WriteGroups(this.#serving)
    this.#reembedder = new EmbeddedReembedder(this.#serving, this.#writes, catalog)
    this.maintenance = new EmbeddedMaintenance(this.#serving, this.#writes, this.#reembedder)
    this.#saved.set(generation.index, generation.index.position)
  }

  acquire(): Lease {
    const serving = this.#serving
    const lease = serving.acquire()
    const { generation } = lease
    const isOutdated = (): boolean => serving.generation !== generation
    return {
      models: generation.models,
      items: itemsOf(generation, isOutdated, this.#filtered),
      get isOutdated() {
        return isOutdated()
      },
      [Symbol.dispose]: () => lease[Symbol.dispose](),
    }
  }

  put(
    item: NewItem,
    fingerprint: string,
    _call?: CallContext,
    condition?: PutCondition,
  ): Promise<PutOutcome> {
    return this.#writes.add(item, fingerprint, condition)
  }

  remove(id: string): Promise<boolean> {
    return this.#writes.remove(id)
  }

  start(onProgress?: (replayed: number) => void): Promise<{ replayed: number; removed: number }> {
    const { index, store } = this.#serving.generation
    return repairIndex(store, index, onProgress)
  }

  get workers(): readonly WorkerStatus[] {
    const { models, index } = this.#serving.generation
    return [...models.workers, ...index.workers]
  }

  /** Saves each index that changed. It does not wait for writes, which may never pause. */
  async save(): Promise<void> {
    const prepared = this.#reembedder.generation
    for (const { index } of [this.#serving.generation, ...(prepared === null ? [] : [prepared])]) {
      const { position } = index
      if (index.lost || position === this.#saved.get(index)) continue
      await index.save()
      this.#saved.set(index, position)
    }
  }

  async close(): Promise<void> {
    try {
      await this.#writes.settled()
      await this.save()
    } finally {
      await this.#closeGenerations().finally(this.#onClosed)
    }
  }

  async #closeGenerations(): Promise<void> {
    await this.#reembedder.close()
    const { models, index, store } = this.#serving.generation
    await index.close()
    await store.close()
    await models.close()
  }
}

function itemsOf(
  { index, store }: Generation,
  isOutdated: () => boolean,
  filtered: FilteredSets,
): Items {
  return {
    recall: (embedding, candidates, { filter, signal } = {}) =>
      filter === undefined
        ? index.search(embedding, candidates)
        : filteredRecall({ index, store }, filtered, { filter, embedding, candidates, signal }),
    getMany: (ids) => promised(() => store.getMany(ids)),
    // An outdated bundle lacks encodings of later writes; only `get` reports those as missing.
    payloads: (ids) =>
      promised(() => ids.map((id) => (isOutdated() ? store.get(id)?.payload : store.payload(id)))),
    image: (id) => promised(() => store.image(id)),
    list: ({ after, limit }) =>
      promised(() => store.list({ limit, ...(after === undefined ? {} : { after }) })),
    // From memory: LMDB would gather statistics of its table at each search. Until the repair of a
    // failed write, the index may lack items.
    get size() {
      return index.size
    },
  }
}

/** Reads at once; an error rejects the promise. */
function promised<Value>(read: () => Value): Promise<Value> {
  return new Promise((resolve) => resolve(read()))
}
