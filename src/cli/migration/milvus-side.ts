/** A collection in Milvus as source or target. Each walk reads all items: it numbers no changes. */
import type { ListedItem } from '../../collection/collection.js'
import type { Neighbour } from '../../vector-index/vector-index.js'
import { type NewItem, newItem } from '../../item-store/item-store.js'
import type { MilvusItems } from '../../collection/milvus/milvus.js'
import type { Searched, Source, Target } from './sides.js'

const PAGE = 1000

export class MilvusSide implements Source, Target, Searched {
  readonly name: string
  readonly position = 0
  readonly #items: MilvusItems
  #seen = new Set<string>()

  /** @param name - for messages */
  constructor(name: string, items: MilvusItems) {
    this.name = name
    this.#items = items
  }

  get size(): number {
    return this.#items.size
  }

  async *pages(): AsyncIterable<readonly ListedItem[]> {
    let page = await this.#items.list({ limit: PAGE })
    while (page.length > 0) {
      yield page
      page = await this.#items.list({ limit: PAGE, after: page.at(-1)?.id })
    }
  }

  async *walk(): AsyncIterable<readonly ListedItem[]> {
    this.#seen = new Set()
    for await (const page of this.pages()) {
      for (const { id } of page) this.#seen.add(id)
      yield page
    }
  }

  gone(ids: Iterable<string>): string[] {
    return [...ids].filter((id) => !this.#seen.has(id))
  }

  getMany(ids: readonly string[]): ReturnType<Source['getMany']> {
    return this.#items.getMany(ids)
  }

  image(id: string): Promise<Uint8Array | undefined> {
    return this.#items.image(id)
  }

  /** An item that is replaced between the two reads has another time and is read again later. */
  async read(ids: readonly string[]): Promise<NewItem[]> {
    const items = await this.#items.getMany(ids)
    const images = await Promise.all(
      items.map(async (item) => item && (await this.#items.image(item.id))),
    )
    return items.flatMap((item, at) => {
      const bytes = images[at]
      return item === undefined || bytes === undefined ? [] : [newItem(item, bytes)]
    })
  }

  async put(items: readonly NewItem[]): Promise<void> {
    await Promise.all(items.map((item) => this.#items.put(item)))
  }

  async remove(ids: readonly string[]): Promise<void> {
    await Promise.all(ids.map((id) => this.#items.remove(id)))
  }

  recall(embedding: Float32Array, k: number): Promise<Neighbour[]> {
    return this.#items.recall(embedding, k)
  }
}
