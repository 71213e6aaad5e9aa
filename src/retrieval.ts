/**
 * The pipeline: embed, search, rerank, add, remove. Start reading here.
 *
 * A search walks one way: encode the query, recall candidates by similarity from the vector index, fetch them from the
 * item store, rerank them with the fusion encoder, order and cut. An add encodes the picture once, stores everything
 * that later stages need, then indexes it. The item store is the truth; the index is repaired from it.
 */
import { openItemStore, type Copied, type Item, type ItemStore, type Payload } from './item-store.js'
import type { Call, ModelInfo, Models } from './model.js'
import { encodeAll, given, noItem, storedItem, type Input, type Query } from './retrieval/encode.js'
import { planSearch, type SearchOptions } from './retrieval/plan.js'
import { pairsOf, relevanceOf, similarityOf, type Relevance } from './retrieval/relevance.js'
import { repairIndex } from './retrieval/repair.js'
import { restore, type Restored, type RestoreOptions } from './retrieval/restore.js'
import { StageClock, type Timings } from './retrieval/stage-clock.js'
import { Writer } from './retrieval/writer.js'
import type { VectorIndex } from './vector-index.js'
import type { WorkerStatus } from './worker-process.js'

export { repairIndex }
export type { Call, Input, Item, Payload, Query, Relevance, Restored, SearchOptions, Timings }

/** One answer of a search. Hits are ordered by score, best first. */
export interface Hit {
  id: string
  score: number
  similarity: number
  match: number | null
  payload: Payload | null
}

/** A picture to add: the bytes of its file, and what to keep beside it. */
export interface Addition {
  id: string
  image: Uint8Array
  payload: Payload | null
}

/** The open rooms that the pipeline joins. It closes them. */
export interface Rooms {
  models: Models
  index: VectorIndex
  store: ItemStore
}

export class Retrieval {
  readonly #rooms: Rooms
  readonly #writer: Writer
  /** Up to which change of the store the snapshot on disk is complete. */
  #savedPosition: number

  constructor(rooms: Rooms) {
    this.#rooms = rooms
    this.#writer = new Writer(rooms.store, rooms.index)
    this.#savedPosition = rooms.index.position
  }

  /** Name, version, fingerprint and sizes of the bundle. */
  get model(): ModelInfo {
    return this.#rooms.models.info
  }

  /** Repairs the index from the store, then runs the text side once so that the first search is not the slow one. */
  async start(onProgress?: (replayed: number) => void): Promise<{ replayed: number; removed: number }> {
    const { models, index, store } = this.#rooms
    const repaired = await repairIndex(store, index, onProgress)
    const { encoded } = await models.encodeTexts(['a photo'])
    const { count, width } = this.model.imageTokens
    await models.match(encoded, [new Int8Array(count * width)], [{ text: 0, image: 0, similarity: 0 }])
    return repaired
  }

  /** L2-normalised embeddings of texts and pictures, in the order given. */
  async embed(
    inputs: readonly Input[],
    call?: Call,
  ): Promise<{ embeddings: Float32Array[]; timings: Timings }> {
    const clock = new StageClock()
    const encoded = await encodeAll(this.#rooms, inputs, clock, call, (at) => `inputs[${at}]`)
    return { embeddings: encoded.map(({ embedding }) => embedding), timings: clock.read() }
  }

  /**
   * The items that answer a query, best first.
   *
   * A text query is reranked: `score` is the match. A picture or an id finds similar pictures: there is no text to
   * match, so `match` is null and `score` is the similarity; an item is not among the hits of its own id.
   *
   * @throws TandemError options_conflict, item_not_found, or what encoding the query meets
   */
  async search(query: Query, options: SearchOptions, call?: Call): Promise<{ hits: Hit[]; timings: Timings }> {
    const { models, index, store } = this.#rooms
    const { k, candidates, rerank, minMatch } = planSearch(query, options, this.model)
    const clock = new StageClock()
    const self = 'id' in query ? query.id : undefined

    const pairsAhead = rerank && 'text' in query ? Math.min(candidates, index.size) : 0
    const encoded = given((await encodeAll(this.#rooms, [query], clock, { ...call, pairsAhead }))[0])
    const depth = self === undefined ? candidates : candidates + 1
    const recalled = await clock.time('recall', () => index.search(encoded.embedding, depth))
    const wanted = recalled.filter(({ id }) => id !== self).slice(0, rerank ? candidates : k)
    const fetched = await clock.time('fetch', () => {
      const items = store.getMany(wanted.map(({ id }) => id))
      // An item removed since it was recalled is no hit.
      return wanted.flatMap(({ similarity }, at) => (items[at] ? [{ item: items[at], similarity }] : []))
    })
    if (!rerank || encoded.kind !== 'text' || fetched.length === 0) {
      const hits = fetched.map(({ item: { id, payload }, similarity }) => ({
        id,
        score: similarity,
        similarity,
        match: null,
        payload,
      }))
      return { hits, timings: clock.read() }
    }
    const pairs = fetched.map(({ similarity }, image) => ({ text: 0, image, similarity }))
    const tokens = fetched.map(({ item }) => item.imageTokens)
    const { matches, timings } = await clock.time('rerank', () => models.match([encoded.text], tokens, pairs, call))
    clock.add(timings)

    const hits = fetched
      .map(({ item: { id, payload }, similarity }, at) => ({ id, payload, similarity, ...given(matches[at]) }))
      .sort((a, b) => b.logit - a.logit)
      .filter(({ match }) => match >= minMatch)
      .slice(0, k)
      .map(({ id, payload, similarity, match }) => ({ id, score: match, similarity, match, payload }))
    return { hits, timings: clock.read() }
  }

  /** Orders documents by their relevance to a query; each may be a text, a picture or the id of a stored item. */
  async rerank(
    query: Query,
    documents: readonly Query[],
    call?: Call,
  ): Promise<{ ranked: Relevance[]; timings: Timings }> {
    const clock = new StageClock()
    const nameOf = (at: number): string => (at === 0 ? 'query' : `documents[${at - 1}]`)
    const pairsAhead = pairsOf(query, documents)
    const [first, ...rest] = await encodeAll(this.#rooms, [query, ...documents], clock, { ...call, pairsAhead }, nameOf)
    const { ranked, timings } = await clock.time('rerank', () =>
      relevanceOf(this.#rooms.models, given(first), rest, call),
    )
    clock.add(timings)
    return { ranked, timings: clock.read() }
  }

  /**
   * Adds a picture, or replaces the item of the same id. Resolves when it is on disk and searchable.
   *
   * @throws TandemError image_type_unsupported, image_unreadable, image_too_large; nothing is stored then
   */
  async add(addition: Addition, call?: Call): Promise<{ status: 'created' | 'replaced'; timings: Timings }> {
    const clock = new StageClock()
    const { id, payload, image } = addition
    const { encoded, timings } = await clock.time('encode', () => this.#rooms.models.encodeImages([image], call))
    clock.add(timings)
    const { embedding, imageTokens, picture } = given(encoded[0])
    // Once stored, an embedding that the index refuses would stop every later write.
    if (!(Math.abs(similarityOf(embedding, embedding) - 1) < 0.01))
      throw new Error('the model gave an embedding without length 1')
    call?.signal?.throwIfAborted()
    const status = await clock.time('store', () => this.#writer.add({ id, payload, embedding, imageTokens, picture }))
    return { status, timings: clock.read() }
  }

  /** Removes an item; resolves, once that is on disk, to whether there was one. */
  remove(id: string): Promise<boolean> {
    return this.#writer.remove(id)
  }

  /** @throws TandemError item_not_found */
  get(id: string): Item {
    return storedItem(this.#rooms.store, id)
  }

  /** The stored picture of an item, an upright JPEG. @throws TandemError item_not_found */
  picture(id: string): Uint8Array {
    return this.#rooms.store.picture(id) ?? noItem(id)
  }

  /** A page of items in the order of their ids, and the id to continue after, null on the last page. */
  list({ after, limit }: { after?: string | undefined; limit: number }): { items: Item[]; next: string | null } {
    const found = this.#rooms.store.list({ limit: limit + 1, ...(after === undefined ? {} : { after }) })
    const items = found.slice(0, limit)
    return { items, next: found.length > limit ? (items.at(-1)?.id ?? null) : null }
  }

  /** Of the item store: its identity, and the bytes that it takes on disk. */
  get storage(): { identity: string; bytes: number } {
    return { identity: this.#rooms.store.identity, bytes: this.#rooms.store.bytesOnDisk() }
  }

  /** The processes that the pipeline needs, for health and metrics. */
  get workers(): readonly WorkerStatus[] {
    const { models, index } = this.#rooms
    return [...models.workers, ...index.workers]
  }

  /** Numbers for the gauges. */
  stats(): { items: number; queueDepth: number; inFlight: number } {
    return { items: this.#rooms.store.size, ...this.#rooms.models.stats() }
  }

  /**
   * Writes the index's snapshot if anything changed, so that the next start has less to repair. Takes its turn among the
   * writes: to wait for their end would be to wait for ever where they do not cease.
   */
  async save(): Promise<void> {
    const { index } = this.#rooms
    if (index.lost || index.position === this.#savedPosition) return
    const { position } = index
    await index.save()
    this.#savedPosition = position
  }

  /** Copies the item store as it is at one moment; writes go on meanwhile. See ItemStore.copyTo. */
  copyTo(folder: string): Promise<Copied> {
    return this.#rooms.store.copyTo(folder)
  }

  /**
   * Makes the items those of another store, a copy, while searches and writes go on; see retrieval/restore.ts.
   *
   * @param folder - of the copy, which is not changed
   * @throws StoreMismatchError for a copy of another version of the service; TandemError storage_full, storage_read_only
   */
  async restoreFrom(folder: string, options: RestoreOptions): Promise<Restored> {
    const from = await openItemStore({ folder, fingerprint: null, readOnly: true })
    try {
      return await restore(this.#rooms, this.#writer, from, options)
    } finally {
      await from.close()
    }
  }

  /** Waits for writes, saves the index and closes the rooms in the reverse order of their opening. */
  async close(): Promise<void> {
    try {
      await this.#writer.settled()
      await this.save()
    } finally {
      await this.#rooms.index.close()
      await this.#rooms.store.close()
      await this.#rooms.models.close()
    }
  }
}
