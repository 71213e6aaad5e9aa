/**
 * A collection that any number of services share: its items are in Milvus and an image store, and
 * this process keeps none of them. Its bundle is the configured one for as long as it runs.
 */
import type { Asker, Collection, Items, Put, Visit } from '../collection.js'
import type { NewItem } from '../../item-store/item-store.js'
import type { EngineStatus, MilvusItems } from './milvus.js'
import type { Models } from '../../model/models.js'
import type { WorkerStatus } from '../../worker/worker-process.js'

export class SharedCollection implements Collection {
  readonly upkeep = null
  readonly #models: Models
  readonly #items: MilvusItems
  readonly #onClosed: () => void

  constructor(models: Models, items: MilvusItems, onClosed: () => void) {
    this.#models = models
    this.#items = items
    this.#onClosed = onClosed
  }

  enter(): Visit {
    const items: Items = this.#items
    return { models: this.#models, items, isOutdated: false, [Symbol.dispose]: () => undefined }
  }

  /**
   * Items of another bundle never come here: there is one, and the collection was checked to be of
   * it.
   */
  put(item: NewItem, _fingerprint: string, asker?: Asker): Promise<Put> {
    return this.#items.put(item, asker)
  }

  remove(id: string, asker?: Asker): Promise<boolean> {
    return this.#items.remove(id, asker)
  }

  /**
   * Waits for an engine that is away, as long as it is. What is stored there can be found, and
   * nothing has to be replayed.
   */
  async start(): Promise<{ replayed: number; removed: number }> {
    await this.#items.start(Infinity)
    return { replayed: 0, removed: 0 }
  }

  save(): Promise<void> {
    return Promise.resolve()
  }

  get workers(): readonly WorkerStatus[] {
    return this.#models.workers
  }

  get engine(): EngineStatus {
    return this.#items.status
  }

  async close(): Promise<void> {
    try {
      await this.#items.close()
    } finally {
      this.#onClosed()
      await this.#models.close()
    }
  }
}
