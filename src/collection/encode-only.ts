/** The collection of a service that encodes for others: the models of a bundle, and no items. */
import type { Collection, Items, Visit } from './collection.js'
import { TandemError } from '../errors.js'
import type { Models } from '../model/models.js'
import type { WorkerStatus } from '../worker/worker-process.js'

const refuse = (): Promise<never> => {
  const sentence =
    'This service encodes and keeps no items (TANDEM_ROLE=encode): ask one that searches.'
  return Promise.reject(new TandemError('not_supported', sentence))
}

const noItems: Items = {
  recall: refuse,
  getMany: refuse,
  payloads: refuse,
  image: refuse,
  list: refuse,
  size: 0,
}

export class ItemlessCollection implements Collection {
  readonly upkeep = null
  readonly engine = null
  readonly #models: Models

  constructor(models: Models) {
    this.#models = models
  }

  enter(): Visit {
    return {
      models: this.#models,
      items: noItems,
      isOutdated: false,
      [Symbol.dispose]: () => undefined,
    }
  }

  put(): Promise<never> {
    return refuse()
  }

  remove(): Promise<never> {
    return refuse()
  }

  start(): Promise<{ replayed: number; removed: number }> {
    return Promise.resolve({ replayed: 0, removed: 0 })
  }

  save(): Promise<void> {
    return Promise.resolve()
  }

  get workers(): readonly WorkerStatus[] {
    return this.#models.workers
  }

  close(): Promise<void> {
    return this.#models.close()
  }
}
