/**
 * The pipeline: embed, search, rerank, add, remove. Start reading in `search.ts`.
 *
 * An add encodes the image once and puts everything that later stages need into the collection,
 * which stores and recalls it, in this process or in an external engine.
 */
import { setImmediate } from 'node:timers/promises'
import { TandemError } from '../errors.js'
import type {
  Collection,
  EngineStatus,
  Item,
  ListedItem,
  Maintenance,
  PutCondition,
  Reembedder,
  Restored,
} from '../collection/collection.js'
import type { Payload } from '../item-store/item-store.js'
import type { Call, ModelInfo, ModelStats } from '../model/models.js'
import type { WorkerStatus } from '../worker/worker-process.js'
import { encodeAll, encodeImage, noItem, present, type Input, type Query } from './encode.js'
import type { Hit } from './hits.js'
import { findingOf, noticeOfQuery, noticesOfDocuments, type Notice } from './notices.js'
import { planSearch, type SearchOptions } from './plan.js'
import { checkOneKind, pairsOf, relevanceOf, type Relevance } from './relevance.js'
import { RerankEstimate } from './rerank-estimate.js'
import { search, type SearchResult } from './search.js'
import { StageClock, timed, type Timings } from './stage-clock.js'

export type {
  Call,
  Hit,
  Input,
  Item,
  ListedItem,
  Maintenance,
  Notice,
  Payload,
  PutCondition,
  Query,
  Reembedder,
  Relevance,
  Restored,
  SearchOptions,
  Timings,
}

/** An image to add: the bytes of its file and its payload. */
export interface Addition {
  id: string
  image: Uint8Array
  payload: Payload | null
}

export interface RerankOptions {
  /** Names the query, at 0, and the documents in errors. */
  nameOf?: (at: number) => string
  /** Language of the texts (BCP 47); identified for each if it is not given. */
  language?: string | undefined
}

const nameInRequest = (at: number): string => (at === 0 ? 'query' : `documents[${at - 1}]`)
/** Items of a page that are read at once: 2 MiB of payloads at most. */
const LIST_STEP = 32
/** The payloads of a page, in characters of JSON. The one that exceeds it is the last. */
const MAX_PAGE_SIZE = 2 ** 20

export class Retrieval {
  readonly #collection: Collection
  readonly #estimate = new RerankEstimate()

  /** @param collection - `close` closes it too */
  constructor(collection: Collection) {
    this.#collection = collection
  }

  /** The bundle that serves. */
  get model(): ModelInfo {
    using lease = this.#collection.acquire()
    return lease.models.info
  }

  /** Change of bundle, backups and restore; null if an external engine stores the items. */
  get maintenance(): Maintenance | null {
    return this.#collection.maintenance
  }

  /**
   * Makes the stored items searchable and resumes a re-embedding. Runs text encoder and fusion
   * encoder once, so that the first search is not slow.
   */
  async start(
    onProgress?: (replayed: number) => void,
  ): Promise<{ replayed: number; removed: number }> {
    const repaired = await this.#collection.start(onProgress)
    using lease = this.#collection.acquire()
    const { models } = lease
    const { encoded } = await models.encodeTexts(['an image'])
    const { count, width } = models.info.imageTokens
    await models.match(
      encoded,
      [new Int8Array(count * width)],
      [{ text: 0, image: 0, similarity: 0 }],
    )
    this.maintenance?.reembedder.resume()
    return repaired
  }

  /**
   * L2-normalised embeddings of texts and images, in the order of the inputs.
   *
   * @param nameOf - names the input at a position in errors
   */
  async embed(
    inputs: readonly Input[],
    call?: Call,
    nameOf = (at: number): string => `inputs[${at}]`,
  ): Promise<{ model: ModelInfo; embeddings: Float32Array[]; timings: Timings }> {
    using lease = this.#collection.acquire()
    const clock = new StageClock(call?.onStage)
    const encoded = clock.take(
      await encodeAll(lease, inputs, { ...call, embeddingOnly: true }, nameOf),
    )
    const embeddings = encoded.map(({ embedding }) => embedding)
    return { model: lease.models.info, embeddings, timings: clock.read() }
  }

  /**
   * The items that answer a query, best first.
   *
   * A text query is reranked: `score` is the match. An image or an id finds similar images: `match`
   * is null and `score` is the similarity. So it is for a text that the bundle does not understand;
   * `notices` say why. The item of the id is not among the hits.
   *
   * @throws TandemError options_conflict, item_not_found, or what encoding the query throws
   */
  async search(
    query: Query,
    options: SearchOptions,
    call?: Call,
  ): Promise<Omit<SearchResult, 'recalled' | 'reranked'>> {
    using lease = this.#collection.acquire()
    const { models, items } = lease
    const plan = planSearch(query, options, models.info)
    const expected = { k: plan.k, candidates: Math.min(plan.candidates, items.size) }
    const pairsAhead = plan.rerank ? this.#estimate.pairs(expected) : 0
    const result = await search(lease, query, plan, pairsAhead, call)
    if (result === null) return this.search(query, options, call)
    const { recalled, reranked, ...answer } = result
    if (reranked > 0) this.#estimate.observe({ k: plan.k, candidates: recalled }, reranked)
    return answer
  }

  /**
   * Orders documents by their relevance to a query. The query may be a text, an image or the id of
   * a stored item. The documents are texts, or they are images and ids.
   *
   * @returns `orderedBy`, the meaning of every relevance: the match of a text and an image, or the
   *   similarity of two texts or two images, which have no match. `notices` name texts that the
   *   bundle does not understand; they have no match either
   * @throws TandemError documents_mixed, item_not_found, or what encoding throws
   */
  async rerank(
    query: Query,
    documents: readonly Query[],
    call?: Call,
    { nameOf = nameInRequest, language }: RerankOptions = {},
  ): Promise<{
    model: ModelInfo
    orderedBy: 'match' | 'similarity'
    ranked: Relevance[]
    notices: Notice[]
    timings: Timings
  }> {
    checkOneKind(documents)
    using lease = this.#collection.acquire()
    const { models } = lease
    const clock = new StageClock(call?.onStage)
    const queries = [query, ...documents]
    const encoding = { ...call, language, pairsAhead: pairsOf(query, documents) }
    const [first, ...rest] = clock.take(await encodeAll(lease, queries, encoding, nameOf))
    const { info } = models
    const finding = findingOf(info, query, present(first), language)
    const findings = documents.map((document, at) =>
      findingOf(info, document, present(rest[at]), language),
    )
    const understood = (at: number): boolean => finding === null && findings[at] === null
    const { ranked, orderedBy } = clock.take(
      await relevanceOf(models, present(first), rest, understood, call),
    )
    const notices = [
      ...(finding === null ? [] : [noticeOfQuery(info, finding)]),
      ...noticesOfDocuments(info, findings),
    ]
    return { model: info, orderedBy, ranked, notices, timings: clock.read() }
  }

  /**
   * Adds an image, or replaces the item of the same id. Resolves when it is on disk and searchable.
   *
   * @param condition - checked before the image is encoded, and again when it is stored
   * @throws TandemError image_type_unsupported, image_unreadable, image_too_large,
   *   precondition_failed; then nothing is stored
   */
  async add(
    addition: Addition,
    call?: Call,
    condition?: PutCondition,
  ): Promise<{ status: 'created' | 'replaced'; timings: Timings }> {
    const clock = new StageClock(call?.onStage)
    const { id, payload } = addition
    if (condition !== undefined && !condition(await this.#stored(id, call)))
      throw new TandemError('precondition_failed', { id })
    for (;;) {
      const { fingerprint, image: encoded } = clock.take(
        await encodeImage(this.#collection, addition.image, call),
      )
      const { embedding, imageTokens, image } = encoded
      call?.signal?.throwIfAborted()
      const item = { id, payload, embedding, imageTokens, image }
      const status = clock.take(
        await timed('store', () => this.#collection.put(item, fingerprint, call, condition)),
      )
      if (status === 'unmet') throw new TandemError('precondition_failed', { id })
      // After a change of bundle the image is encoded again.
      if (status !== 'outdated') return { status, timings: clock.read() }
    }
  }

  async #stored(id: string, call?: Call): Promise<Parameters<PutCondition>[0]> {
    using lease = this.#collection.acquire()
    const [item] = await lease.items.getMany([id], call)
    return item && { item, image: await lease.items.image(id, call) }
  }

  /** Removes an item. Resolves when that is durable, to whether the item existed. */
  remove(id: string, call?: Call): Promise<boolean> {
    return this.#collection.remove(id, call)
  }

  /** @throws TandemError item_not_found */
  async get(id: string, call?: Call): Promise<Item> {
    using lease = this.#collection.acquire()
    const [item] = await lease.items.getMany([id], call)
    return item ?? noItem(id)
  }

  /** The stored image of an item, an upright JPEG. @throws TandemError item_not_found */
  async image(id: string, call?: Call): Promise<Uint8Array> {
    using lease = this.#collection.acquire()
    return (await lease.items.image(id, call)) ?? noItem(id)
  }

  /**
   * A page of items, ordered by id; `next` is the id to continue after, null on the last page. A
   * page has fewer items than `limit` where their payloads together exceed 1 MiB.
   */
  async list(
    { after, limit }: { after?: string | undefined; limit: number },
    call?: Call,
  ): Promise<{ items: ListedItem[]; next: string | null }> {
    using lease = this.#collection.acquire()
    const items: ListedItem[] = []
    let size = 0
    for (;;) {
      const last = items.at(-1)?.id
      const count = Math.min(LIST_STEP, limit + 1 - items.length)
      const read = await lease.items.list({ after: last ?? after, limit: count }, call)
      for (const item of read) {
        if (items.length === limit || size >= MAX_PAGE_SIZE)
          return { items, next: items.at(-1)?.id ?? null }
        items.push(item)
        size += item.payload === null ? 0 : JSON.stringify(item.payload).length
      }
      if (read.length < count) return { items, next: null }
      // Large payloads take milliseconds to read: other requests get a turn.
      await setImmediate()
      call?.signal?.throwIfAborted()
    }
  }

  /** The processes that the service needs, for health and metrics. */
  get workers(): readonly WorkerStatus[] {
    return this.#collection.workers
  }

  /** The external engine that stores the items; null without one. */
  get engine(): EngineStatus | null {
    return this.#collection.engine
  }

  /** Numbers for the gauges. */
  stats(): ModelStats & { items: number } {
    using lease = this.#collection.acquire()
    return { items: lease.items.size, ...lease.models.stats() }
  }

  /** Makes the next start short. */
  save(): Promise<void> {
    return this.#collection.save()
  }

  /** Finishes the work in progress and closes the collection. */
  close(): Promise<void> {
    return this.#collection.close()
  }
}
