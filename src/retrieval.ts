/**
 * The pipeline: embed, search, rerank, add, remove. Start reading here.
 *
 * A search walks one way: encode the query, recall candidates by similarity from the vector index, fetch them from the
 * item store, rerank them with the fusion encoder, order and cut. An add encodes the picture once, stores everything
 * that later stages need, then indexes it. The item store is the truth; the index is repaired from it.
 */
import { openItemStore, type Copied, type Item, type Payload } from './item-store.js'
import type { Call, ModelInfo } from './model.js'
import { encodeAll, encodePicture, given, noItem, storedItem, type Input, type Query } from './retrieval/encode.js'
import { Follower } from './retrieval/follower.js'
import { byMatch, bySimilarity, type Hit } from './retrieval/hits.js'
import { planSearch, type SearchOptions } from './retrieval/plan.js'
import { pairsOf, relevanceOf, type Relevance } from './retrieval/relevance.js'
import { repairIndex } from './retrieval/repair.js'
import { restore, type Restored, type RestoreOptions } from './retrieval/restore.js'
import { Serving, type Rooms } from './retrieval/serving.js'
import { StageClock, type Timings } from './retrieval/stage-clock.js'
import { Standby, type BundleShelf, type StandbyStatus } from './retrieval/standby.js'
import { Writer } from './retrieval/writer.js'
import type { VectorIndex } from './vector-index.js'
import type { WorkerStatus } from './worker-process.js'

export { Follower, repairIndex }
export type { BundleShelf, Call, Hit, Input, Item, Payload, Query, Relevance, Restored, Rooms, SearchOptions, StandbyStatus, Timings }

/** A picture to add: the bytes of its file, and what to keep beside it. */
export interface Addition {
  id: string
  image: Uint8Array
  payload: Payload | null
}

export class Retrieval {
  /** The bundle that stands by to take the place of the one that serves. */
  readonly standby: Standby
  readonly #serving: Serving
  readonly #writer: Writer
  /** Up to which change of the store the snapshot of an index is complete. */
  readonly #saved = new WeakMap<VectorIndex, number>()

  /** @param rooms - of the bundle that serves; they are closed with the pipeline */
  constructor(rooms: Rooms, shelf: BundleShelf) {
    this.#serving = new Serving(rooms)
    this.#writer = new Writer(this.#serving)
    this.standby = new Standby(this.#serving, this.#writer, shelf)
    this.#saved.set(rooms.index, rooms.index.position)
  }

  /** Name, version, fingerprint and sizes of the bundle that serves. */
  get model(): ModelInfo {
    return this.#serving.rooms.models.info
  }

  /**
   * Repairs the index from the store, then runs the text side once so that the first search is not the slow one. A
   * standby goes on where it was.
   */
  async start(onProgress?: (replayed: number) => void): Promise<{ replayed: number; removed: number }> {
    const { models, index, store } = this.#serving.rooms
    const repaired = await repairIndex(store, index, onProgress)
    const { encoded } = await models.encodeTexts(['a photo'])
    const { count, width } = this.model.imageTokens
    await models.match(encoded, [new Int8Array(count * width)], [{ text: 0, image: 0, similarity: 0 }])
    this.standby.resume()
    return repaired
  }

  /** L2-normalised embeddings of texts and pictures, in the order given. */
  async embed(
    inputs: readonly Input[],
    call?: Call,
  ): Promise<{ model: ModelInfo; embeddings: Float32Array[]; timings: Timings }> {
    using visit = this.#serving.enter()
    const clock = new StageClock()
    const encoded = await encodeAll(visit.rooms, inputs, clock, call, (at) => `inputs[${at}]`)
    const embeddings = encoded.map(({ embedding }) => embedding)
    return { model: visit.rooms.models.info, embeddings, timings: clock.read() }
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
    using visit = this.#serving.enter()
    const { models, index, store } = visit.rooms
    const { k, candidates, rerank, minMatch } = planSearch(query, options, models.info)
    const clock = new StageClock()
    const self = 'id' in query ? query.id : undefined

    const pairsAhead = rerank && 'text' in query ? Math.min(candidates, index.size) : 0
    const encoded = given((await encodeAll(visit.rooms, [query], clock, { ...call, pairsAhead }))[0])
    const depth = self === undefined ? candidates : candidates + 1
    const recalled = await clock.time('recall', () => index.search(encoded.embedding, depth))
    const wanted = recalled.filter(({ id }) => id !== self).slice(0, rerank ? candidates : k)
    const fetched = await clock.time('fetch', () => {
      const items = store.getMany(wanted.map(({ id }) => id))
      // An item removed since it was recalled is no hit.
      return wanted.flatMap(({ similarity }, at) => (items[at] ? [{ item: items[at], similarity }] : []))
    })
    // What was replaced since a change of bundle is encoded by the new one alone: then the search begins again with that.
    if (fetched.length < wanted.length && this.#serving.rooms !== visit.rooms) return this.search(query, options, call)
    if (!rerank || encoded.kind !== 'text' || fetched.length === 0) {
      return { hits: bySimilarity(fetched), timings: clock.read() }
    }
    const pairs = fetched.map(({ similarity }, image) => ({ text: 0, image, similarity }))
    const tokens = fetched.map(({ item }) => item.imageTokens)
    const { matches, timings } = await clock.time('rerank', () => models.match([encoded.text], tokens, pairs, call))
    clock.add(timings)
    return { hits: byMatch(fetched, matches, { k, minMatch }), timings: clock.read() }
  }

  /** Orders documents by their relevance to a query; each may be a text, a picture or the id of a stored item. */
  async rerank(
    query: Query,
    documents: readonly Query[],
    call?: Call,
  ): Promise<{ model: ModelInfo; ranked: Relevance[]; timings: Timings }> {
    using visit = this.#serving.enter()
    const { models } = visit.rooms
    const clock = new StageClock()
    const nameOf = (at: number): string => (at === 0 ? 'query' : `documents[${at - 1}]`)
    const pairsAhead = pairsOf(query, documents)
    const [first, ...rest] = await encodeAll(visit.rooms, [query, ...documents], clock, { ...call, pairsAhead }, nameOf)
    const { ranked, timings } = await clock.time('rerank', () => relevanceOf(models, given(first), rest, call))
    clock.add(timings)
    return { model: models.info, ranked, timings: clock.read() }
  }

  /**
   * Adds a picture, or replaces the item of the same id. Resolves when it is on disk and searchable.
   *
   * @throws TandemError image_type_unsupported, image_unreadable, image_too_large; nothing is stored then
   */
  async add(addition: Addition, call?: Call): Promise<{ status: 'created' | 'replaced'; timings: Timings }> {
    const clock = new StageClock()
    const { id, payload, image } = addition
    for (;;) {
      const { fingerprint, encoded } = await encodePicture(this.#serving, image, clock, call)
      const { embedding, imageTokens, picture } = encoded
      call?.signal?.throwIfAborted()
      const item = { id, payload, embedding, imageTokens, picture }
      const status = await clock.time('store', () => this.#writer.add(item, fingerprint))
      // Encoded again where the bundle has changed meanwhile.
      if (status !== 'switched') return { status, timings: clock.read() }
    }
  }

  /** Removes an item; resolves, once that is on disk, to whether there was one. */
  remove(id: string): Promise<boolean> {
    return this.#writer.remove(id)
  }

  /** @throws TandemError item_not_found */
  get(id: string): Item {
    return storedItem(this.#serving.rooms.store, id)
  }

  /** The stored picture of an item, an upright JPEG. @throws TandemError item_not_found */
  picture(id: string): Uint8Array {
    return this.#serving.rooms.store.picture(id) ?? noItem(id)
  }

  /** A page of items in the order of their ids, and the id to continue after, null on the last page. */
  list({ after, limit }: { after?: string | undefined; limit: number }): { items: Item[]; next: string | null } {
    const found = this.#serving.rooms.store.list({ limit: limit + 1, ...(after === undefined ? {} : { after }) })
    const items = found.slice(0, limit)
    return { items, next: found.length > limit ? (items.at(-1)?.id ?? null) : null }
  }

  /** Of the item store: its identity, and the bytes that it takes on disk. */
  get storage(): { identity: string; bytes: number } {
    const { store } = this.#serving.rooms
    return { identity: store.identity, bytes: store.bytesOnDisk() }
  }

  /** The processes of the bundle that serves, for health and metrics. */
  get workers(): readonly WorkerStatus[] {
    const { models, index } = this.#serving.rooms
    return [...models.workers, ...index.workers]
  }

  /** Numbers for the gauges. */
  stats(): { items: number; queueDepth: number; inFlight: number } {
    const { store, models } = this.#serving.rooms
    return { items: store.size, ...models.stats() }
  }

  /**
   * Writes the index's snapshot if anything changed, so that the next start has less to repair. Takes its turn among the
   * writes: to wait for their end would be to wait for ever where they do not cease.
   */
  async save(): Promise<void> {
    for (const rooms of [this.#serving.rooms, this.standby.rooms]) {
      if (rooms === null || rooms.index.lost || rooms.index.position === this.#saved.get(rooms.index)) continue
      const { position } = rooms.index
      await rooms.index.save()
      this.#saved.set(rooms.index, position)
    }
  }

  /** Copies the item store as it is at one moment; writes go on meanwhile. See ItemStore.copyTo. */
  copyTo(folder: string): Promise<Copied> {
    return this.#serving.rooms.store.copyTo(folder)
  }

  /**
   * Makes the items those of another store, a copy, while searches and writes go on; see retrieval/restore.ts.
   *
   * @param folder - of the copy, which is not changed
   * @throws StoreMismatchError for a copy of another version of the service; TandemError storage_full, storage_read_only
   */
  async restoreFrom(folder: string, options: RestoreOptions): Promise<Restored> {
    using visit = this.#serving.enter()
    const from = await openItemStore({ folder, fingerprint: null, readOnly: true })
    try {
      return await restore(visit.rooms, this.#writer, from, options)
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
      await this.standby.close()
      const { models, index, store } = this.#serving.rooms
      await index.close()
      await store.close()
      await models.close()
    }
  }
}
