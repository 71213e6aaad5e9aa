import type { NewItem } from '../../item-store/item-store.js'
import type { Models } from '../../model/models.js'
import type { WorkerStatus } from '../../worker/worker-process.js'
import type { CallContext, Collection, EngineStatus, Lease, PutOutcome } from '../collection.js'
import type { MilvusItems } from './milvus.js'

/**
 * A collection that any number of services share: this process keeps none of its items. Its bundle
 * is the configured one for as long as the service runs.
 */
export class SharedCollection implements Collection {
  readonly maintenance = null
  readonly #models: Models
  readonly #items: MilvusItems
  readonly #onClosed: () => void

  /**
   * @param models - closed with the collection, like the items
   * @param onClosed - called when the items are closed
   */
  constructor(models: Models, items: MilvusItems, onClosed: () => void) {
    this.#models = models
    this.#items = items
    this.#onClosed = onClosed
  }

  acquire(): Lease {
    return {
      models: this.#models,
      items: this.#items,
      isOutdated: false,
      [Symbol.dispose]: () => undefined,
    }
  }

  /** The start has checked that the collection is of the one bundle that this service has. */
  put(item: NewItem, _fingerprint: string, call?: CallContext): Promise<PutOutcome> {
    return this.#items.put(item, call)
  }

  remove(id: string): Promise<boolean> {
    return this.#items.remove(id)
  }

  /** Waits without limit for an unavailable Milvus. Nothing has to be replayed. */
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
