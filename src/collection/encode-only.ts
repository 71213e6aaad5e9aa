/** The collection of a service that only encodes: the models of a bundle, and no items. */
import type { Collection, Lease } from './collection.js'
import { TandemError } from '../errors.js'
import type { Models } from '../model/models.js'
import type { WorkerStatus } from '../worker/worker-process.js'

const refuse = (): Promise<never> =>
  Promise.reject(
    new TandemError(
      'not_supported',
      'This service encodes and stores no items (TANDEM_ROLE=encode); send this request to one that searches.',
    ),
  )

const items = {
  recall: refuse,
  getMany: refuse,
  payloads: refuse,
  image: refuse,
  list: refuse,
  size: 0,
}

/** Refuses every operation on items as `not_supported`. */
export class EncodeOnlyCollection implements Collection {
  readonly maintenance = null
  readonly engine = null
  readonly put = refuse
  readonly remove = refuse
  readonly #models: Models

  /** @param models - closed with the collection */
  constructor(models: Models) {
    this.#models = models
  }

  acquire(): Lease {
    return { models: this.#models, items, isOutdated: false, [Symbol.dispose]: () => undefined }
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
