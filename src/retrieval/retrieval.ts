/**
 * The pipeline: embed, search, rerank, add, remove. Start reading here.
 *
 * A search walks one way: encode the query, recall candidates by similarity, fetch what is stored
 * of those that may be hits, rerank them with the fusion encoder, order and cut. An add encodes the
 * image once and puts everything that later stages need into the collection, which keeps and finds
 * it, in this process or in an engine elsewhere.
 */
import type {
  Collection,
  EngineStatus,
  Item,
  ListedItem,
  Neighbour,
  Payload,
  Restored,
  StandbyStatus,
  Upkeep,
} from '../collection/collection.js'
import { testOf } from '../filter/matches.js'
import type { Call, ModelInfo } from '../model/models.js'
import { contendersOf } from './rerank-margin.js'
import { encodeAll, encodeImage, given, noItem, type Input, type Query } from './encode.js'
import { ExpectedPairs } from './rerank-estimate.js'
import { fetchCandidates, type Candidate } from './hits.js'
import { byMatch, bySimilarity, type Hit } from './fetched-hits.js'
import { planSearch, type SearchOptions } from './plan.js'
import { pairsOf, relevanceOf, type Relevance } from './relevance.js'
import { StageClock, type Timings } from './stage-clock.js'
import type { WorkerStatus } from '../worker/worker-process.js'

export type {
  Call,
  Hit,
  Input,
  Item,
  ListedItem,
  Payload,
  Query,
  Relevance,
  Restored,
  SearchOptions,
  StandbyStatus,
  Timings,
  Upkeep,
}

/** An image to add: the bytes of its file, and what to keep beside it. */
export interface Addition {
  id: string
  image: Uint8Array
  payload: Payload | null
}

export class Retrieval {
  readonly #collection: Collection
  readonly #expectedPairs = new ExpectedPairs()

  /** @param collection - closed with the pipeline */
  constructor(collection: Collection) {
    this.#collection = collection
  }

  /** Name, version, fingerprint and sizes of the bundle that serves. */
  get model(): ModelInfo {
    using visit = this.#collection.enter()
    return visit.models.info
  }

  /** Change of bundle, copies and restore; null where the items are kept by an engine elsewhere. */
  get upkeep(): Upkeep | null {
    return this.#collection.upkeep
  }

  /**
   * Makes the stored items findable, then runs the text side once so that the first search is not
   * the slow one. A standby goes on where it was.
   */
  async start(
    onProgress?: (replayed: number) => void,
  ): Promise<{ replayed: number; removed: number }> {
    const repaired = await this.#collection.start(onProgress)
    using visit = this.#collection.enter()
    const { models } = visit
    const { encoded } = await models.encodeTexts(['an image'])
    const { count, width } = models.info.imageTokens
    await models.match(
      encoded,
      [new Int8Array(count * width)],
      [{ text: 0, image: 0, similarity: 0 }],
    )
    this.upkeep?.standby.resume()
    return repaired
  }

  /** L2-normalised embeddings of texts and images, in the order given. */
  async embed(
    inputs: readonly Input[],
    call?: Call,
  ): Promise<{ model: ModelInfo; embeddings: Float32Array[]; timings: Timings }> {
    using visit = this.#collection.enter()
    const clock = new StageClock()
    const encoded = await encodeAll(
      visit,
      inputs,
      clock,
      { ...call, embeddingOnly: true },
      (at) => `inputs[${at}]`,
    )
    const embeddings = encoded.map(({ embedding }) => embedding)
    return { model: visit.models.info, embeddings, timings: clock.read() }
  }

  /**
   * The items that answer a query, best first.
   *
   * A text query is reranked: `score` is the match. An image or an id finds similar images: there
   * is no text to match, so `match` is null and `score` is the similarity; an item is not among the
   * hits of its own id.
   *
   * @throws TandemError options_conflict, item_not_found, or what encoding the query meets
   */
  async search(
    query: Query,
    options: SearchOptions,
    call?: Call,
  ): Promise<{ hits: Hit[]; timings: Timings }> {
    using visit = this.#collection.enter()
    const { models, items } = visit
    const { k, candidates, rerank, minMatch } = planSearch(query, options, models.info)
    const clock = new StageClock()
    const self = 'id' in query ? query.id : undefined
    const { filter } = options
    const passes = filter === undefined ? () => true : testOf(filter)

    const pairsAhead = rerank
      ? this.#expectedPairs.of({ k, candidates: Math.min(candidates, items.size) })
      : 0
    const encoded = given(
      (await encodeAll(visit, [query], clock, { ...call, pairsAhead, embeddingOnly: !rerank }))[0],
    )
    const depth = self === undefined ? candidates : candidates + 1
    const recalled = await clock.time('recall', () =>
      items.recall(encoded.embedding, depth, { ...call, filter }),
    )
    const wanted = recalled.filter(({ id }) => id !== self).slice(0, rerank ? candidates : k)
    const worthIt = <Some extends Neighbour>(some: readonly Some[]): readonly Some[] =>
      rerank ? contendersOf(some, k, models.info.rerank.margin) : some
    const fetch = (some: readonly Neighbour[]): Promise<Candidate[]> =>
      clock.time('fetch', () => fetchCandidates(items, some, { tokens: rerank, passes, call }))
    const first = worthIt(wanted)
    let contenders: readonly Candidate[] = await fetch(first)
    if (contenders.length < first.length) {
      // What was replaced since a change of bundle is encoded by the new one alone: then the search
      // begins again with that.
      if (visit.isOutdated) return this.search(query, options, call)
      // Behind one that is gone, others come within the margin of the k-th.
      if (first.length < wanted.length) contenders = worthIt(await fetch(wanted))
    }
    if (!rerank || encoded.kind !== 'text' || contenders.length === 0) {
      return { hits: bySimilarity(contenders), timings: clock.read() }
    }
    const pairs = contenders.map(({ similarity }, image) => ({ text: 0, image, similarity }))
    this.#expectedPairs.observe({ k, candidates: wanted.length }, pairs.length)
    const tokens = contenders.map(({ imageTokens }) => imageTokens)
    const { matches, timings } = await clock.time('rerank', () =>
      models.match([encoded.text], tokens, pairs, call),
    )
    clock.add(timings)
    return { hits: byMatch(contenders, matches, { k, minMatch }), timings: clock.read() }
  }

  /**
   * Orders documents by their relevance to a query; each may be a text, an image or the id of a
   * stored item.
   */
  async rerank(
    query: Query,
    documents: readonly Query[],
    call?: Call,
  ): Promise<{ model: ModelInfo; ranked: Relevance[]; timings: Timings }> {
    using visit = this.#collection.enter()
    const { models } = visit
    const clock = new StageClock()
    const nameOf = (at: number): string => (at === 0 ? 'query' : `documents[${at - 1}]`)
    const pairsAhead = pairsOf(query, documents)
    const [first, ...rest] = await encodeAll(
      visit,
      [query, ...documents],
      clock,
      { ...call, pairsAhead },
      nameOf,
    )
    const { ranked, timings } = await clock.time('rerank', () =>
      relevanceOf(models, given(first), rest, call),
    )
    clock.add(timings)
    return { model: models.info, ranked, timings: clock.read() }
  }

  /**
   * Adds an image, or replaces the item of the same id. Resolves when it is on disk and searchable.
   *
   * @throws TandemError image_type_unsupported, image_unreadable, image_too_large; nothing is
   *   stored then
   */
  async add(
    addition: Addition,
    call?: Call,
  ): Promise<{ status: 'created' | 'replaced'; timings: Timings }> {
    const clock = new StageClock()
    const { id, payload } = addition
    for (;;) {
      const { fingerprint, encoded } = await encodeImage(
        this.#collection,
        addition.image,
        clock,
        call,
      )
      const { embedding, imageTokens, image } = encoded
      call?.signal?.throwIfAborted()
      const item = { id, payload, embedding, imageTokens, image }
      const status = await clock.time('store', () => this.#collection.put(item, fingerprint, call))
      // Encoded again where the bundle has changed meanwhile.
      if (status !== 'switched') return { status, timings: clock.read() }
    }
  }

  /** Removes an item; resolves, once that is durable, to whether there was one. */
  remove(id: string, call?: Call): Promise<boolean> {
    return this.#collection.remove(id, call)
  }

  /** @throws TandemError item_not_found */
  async get(id: string, call?: Call): Promise<Item> {
    using visit = this.#collection.enter()
    const [item] = await visit.items.getMany([id], call)
    return item ?? noItem(id)
  }

  /** The stored image of an item, an upright JPEG. @throws TandemError item_not_found */
  async image(id: string, call?: Call): Promise<Uint8Array> {
    using visit = this.#collection.enter()
    return (await visit.items.image(id, call)) ?? noItem(id)
  }

  /**
   * A page of items in the order of their ids, and the id to continue after, null on the last page.
   */
  async list(
    { after, limit }: { after?: string | undefined; limit: number },
    call?: Call,
  ): Promise<{ items: ListedItem[]; next: string | null }> {
    using visit = this.#collection.enter()
    const found = await visit.items.list({ after, limit: limit + 1 }, call)
    const items = found.slice(0, limit)
    return { items, next: found.length > limit ? (items.at(-1)?.id ?? null) : null }
  }

  /** The processes that the service needs, for health and metrics. */
  get workers(): readonly WorkerStatus[] {
    return this.#collection.workers
  }

  /** The engine elsewhere that keeps the items, where there is one. */
  get engine(): EngineStatus | null {
    return this.#collection.engine
  }

  /** Numbers for the gauges. */
  stats(): { items: number; queueDepth: number; inFlight: number } {
    using visit = this.#collection.enter()
    return { items: visit.items.size, ...visit.models.stats() }
  }

  /** Makes the next start short. */
  save(): Promise<void> {
    return this.#collection.save()
  }

  /** Ends what is under way and closes the collection. */
  close(): Promise<void> {
    return this.#collection.close()
  }
}
