/**
 * An embedded collection, to read from or to write to. To be read from it may be in use: LMDB lets
 * any number of processes read what one of them writes, each read being of one moment. Its changes
 * are followed by their positions.
 */
import type { ListedItem } from '../../collection/collection.js'
import { type NewItem, newItem, type ItemStore } from '../../item-store/item-store.js'
import type { Source, Target } from './sides.js'

const PAGE = 256

export class EmbeddedSide implements Source, Target {
  readonly name: string
  readonly #store: ItemStore
  /** Position of the store at the start of the last walk. */
  #walked = 0

  /** @param name - for messages */
  constructor(name: string, store: ItemStore) {
    this.name = name
    this.#store = store
  }

  get size(): number {
    return this.#store.size
  }

  async *pages(): AsyncIterable<readonly ListedItem[]> {
    for (let page = await this.#page(); page.length > 0; page = await this.#page(page.at(-1)?.id))
      yield page
  }

  get position(): number {
    return this.#store.position
  }

  async *walk(all: boolean): AsyncIterable<readonly ListedItem[]> {
    const from = this.#walked
    await freshRead()
    this.#walked = this.#store.position
    if (all) {
      yield* this.pages()
      return
    }
    let page: ListedItem[] = []
    for (const item of this.#store.since(from)) {
      page.push(item)
      if (page.length < PAGE) continue
      yield page
      page = []
    }
    if (page.length > 0) yield page
  }

  gone(ids: Iterable<string>): string[] {
    return [...ids].filter((id) => !this.#store.has(id))
  }

  getMany(ids: readonly string[]): ReturnType<Source['getMany']> {
    return Promise.resolve(this.#store.getMany(ids))
  }

  image(id: string): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.#store.image(id))
  }

  /** Reads in one turn of the event loop, so that no change separates an item and its image. */
  async read(ids: readonly string[]): Promise<NewItem[]> {
    await freshRead()
    const { bundles, fingerprint } = this.#store
    if (bundles.serving.fingerprint !== fingerprint) {
      throw new Error(
        `${this.name} has promoted another bundle meanwhile; run this again with that bundle in TANDEM_MODEL.`,
      )
    }
    return this.#store.getMany(ids).flatMap((item) => {
      const bytes = item && this.#store.image(item.id)
      return item === undefined || bytes === undefined ? [] : [newItem(item, bytes)]
    })
  }

  async put(items: readonly NewItem[]): Promise<void> {
    await this.#store.put(items)
  }

  async remove(ids: readonly string[]): Promise<void> {
    await this.#store.remove(ids)
  }

  async #page(after?: string): Promise<ListedItem[]> {
    await freshRead()
    return this.#store.list({ limit: PAGE, ...(after === undefined ? {} : { after }) })
  }
}

/** Waits for the next turn of the event loop, which reads the latest commit. */
function freshRead(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
