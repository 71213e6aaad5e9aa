import { setTimeout as pause } from 'node:timers/promises'
import { GroupCommit } from '../../async/group-commit.js'
import type { CallContext, EngineStatus, Item, ListedItem, RecallOptions } from '../collection.js'
import type { Neighbour } from '../../vector-index/vector-index.js'
import type { NewItem, Payload } from '../../item-store/item-store.js'
import { Calls } from './calls.js'
import { Engine } from './engine.js'
import { expressionOf, hasId, quoted } from './expression.js'
import { EngineFailure } from './failure.js'
import type { MilvusItems, MilvusOptions } from './milvus.js'
import { ReplacedImages } from './replaced-images.js'
import { IMAGED, imageKeyOf, itemOf, LISTED, listedItemOf, rowOf, type Row } from './rows.js'
import { embeddingField } from './schema.js'

type Write = { kind: 'put'; id: string; item: NewItem } | { kind: 'remove'; id: string }

/** A row has some 17 kB, so that a call has about a megabyte. */
const MAX_GROUP = 64
const READ_PAGE = 128
const LIST_PAGE = 1000
const COUNT_INTERVAL_MS = 30_000
const START_RETRY_MS = 500
const DEFAULT_START_WAIT_MS = 20_000
/** A write is under way for one call at most; this leaves a wide margin. */
const KEEP_REPLACED_MS = 60_000

/** Items that are not started: no call has been made yet. */
export function connectMilvus(options: MilvusOptions): MilvusItems {
  return new RowItems(options)
}

/** Items that are started. @throws Error as `start` */
export async function openMilvus(options: MilvusOptions): Promise<MilvusItems> {
  const items = connectMilvus(options)
  try {
    await items.start()
    return items
  } catch (error) {
    await items.close().catch(() => undefined)
    throw error
  }
}

class RowItems implements MilvusItems {
  readonly #options: MilvusOptions
  readonly #engine: Engine
  readonly #calls: Calls
  readonly #writes: GroupCommit<Write, boolean>
  readonly #replaced: ReplacedImages
  readonly #counting: NodeJS.Timeout
  #size = 0
  #isClosed = false

  constructor(options: MilvusOptions) {
    const { timeoutMs, report = () => undefined } = options
    const engine = new Engine(options)
    this.#options = options
    this.#engine = engine
    this.#calls = new Calls({ timeoutMs, report, load: (timeout) => engine.load(timeout) })
    this.#writes = new GroupCommit({
      maxGroup: MAX_GROUP,
      target: 'the vector database',
      commit: (group) => this.#commit(group),
    })
    this.#replaced = new ReplacedImages({
      keepMs: Math.max(KEEP_REPLACED_MS, 2 * timeoutMs),
      currentKeys: (ids) => this.#imageKeys(ids),
      remove: (keys) => this.#discard(keys),
    })
    this.#counting = setInterval(() => void this.count().catch(() => undefined), COUNT_INTERVAL_MS)
    this.#counting.unref()
  }

  async start(waitMs = DEFAULT_START_WAIT_MS): Promise<void> {
    const { address, timeoutMs, report } = this.#options
    const until = performance.now() + waitMs
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#engine.prepare(timeoutMs)
        this.#size = await this.#engine.count(timeoutMs)
        return
      } catch (error) {
        // The error of a wrong collection has a sentence of its own.
        if (!(error instanceof EngineFailure)) throw error
        const isAway = ['unavailable', 'timeout', 'released'].includes(error.kind)
        const sentence = `Milvus at ${address} ${isAway ? 'cannot be used' : 'refused the collection'}: ${error.message}.`
        if (!isAway || this.#isClosed || performance.now() >= until)
          throw new Error(sentence, { cause: error })
        if (attempt === 1) report?.(`${sentence} The service keeps trying.`)
        await pause(START_RETRY_MS)
      }
    }
  }

  get size(): number {
    return this.#size
  }

  get status(): EngineStatus {
    return this.#calls.status
  }

  async count(call?: CallContext): Promise<number> {
    this.#size = await this.#calls.call((timeout) => this.#engine.count(timeout), call)
    return this.#size
  }

  async recall(
    embedding: Float32Array,
    candidates: number,
    options: RecallOptions = {},
  ): Promise<Neighbour[]> {
    const filter = options.filter === undefined ? undefined : expressionOf(options.filter)
    const query = { embedding, limit: candidates, filter }
    return this.#calls.call((timeout) => this.#engine.search(query, timeout), options)
  }

  async getMany(ids: readonly string[], call?: CallContext): Promise<(Item | undefined)[]> {
    const { fingerprint } = this.#options
    const fields = ['id', embeddingField(fingerprint), 'image_tokens', 'payload', 'about']
    const rows = await this.#rowsInOrder(ids, fields, call)
    return rows.map((row) => row && itemOf(row, fingerprint))
  }

  async payloads(
    ids: readonly string[],
    call?: CallContext,
  ): Promise<(Payload | null | undefined)[]> {
    const rows = await this.#rowsInOrder(ids, LISTED, call)
    return rows.map((row) => row && listedItemOf(row).payload)
  }

  /** In the order of `ids`; undefined for an unknown id. */
  async #rowsInOrder(
    ids: readonly string[],
    fields: string[],
    call?: CallContext,
  ): Promise<(Row | undefined)[]> {
    const pages = Array.from({ length: Math.ceil(ids.length / READ_PAGE) }, (_, page) =>
      ids.slice(page * READ_PAGE, (page + 1) * READ_PAGE),
    )
    const rows = (await Promise.all(pages.map((page) => this.#rows(page, fields, call)))).flat()
    const byId = new Map(rows.map((row) => [row['id'], row]))
    return ids.map((id) => byId.get(id))
  }

  async image(id: string, call?: CallContext): Promise<Uint8Array | undefined> {
    let previousKey: string | undefined
    for (;;) {
      const [row] = await this.#rows([id], IMAGED, call)
      if (row === undefined) return undefined
      const key = imageKeyOf(row)
      const bytes = await this.#options.images.get(key, { signal: call?.signal })
      // A replacement between the two reads removes the image: read the row again.
      if (bytes !== undefined || key === previousKey) return bytes
      previousKey = key
    }
  }

  async list(
    { after = '', limit }: { after?: string | undefined; limit: number },
    call?: CallContext,
  ): Promise<ListedItem[]> {
    return (await this.#page(after, limit, LISTED, call)).map(listedItemOf)
  }

  async *imageKeys(): AsyncIterable<{ id: string; key: string }> {
    let after = ''
    for (;;) {
      const rows = await this.#page(after, LIST_PAGE, IMAGED)
      for (const row of rows) yield { id: row['id'] as string, key: imageKeyOf(row) }
      if (rows.length === 0) return
      after = rows.at(-1)?.['id'] as string
    }
  }

  #page(after: string, limit: number, fields: string[], call?: CallContext): Promise<Row[]> {
    const filter = `id > ${quoted(after)}`
    // The parameters of an iterator: only then are rows ordered by id.
    const params = { iterator: 'True', reduce_stop_for_best: 'True' }
    const query = { filter, output_fields: fields, limit, params }
    return this.#calls.call((timeout) => this.#engine.query(query, timeout), call)
  }

  async put(item: NewItem, call?: CallContext): Promise<'created' | 'replaced'> {
    // Checked here, so that an invalid item does not fail its group.
    rowOf(item, this.#options.fingerprint, '')
    call?.signal?.throwIfAborted()
    const existed = await this.#writes.add({ kind: 'put', id: item.id, item })
    return existed ? 'replaced' : 'created'
  }

  remove(id: string): Promise<boolean> {
    return this.#writes.add({ kind: 'remove', id })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#counting)
    await this.#writes.settled()
    await this.#replaced.end()
    this.#calls.end()
    await this.#engine.close()
  }

  /** @returns for each write whether the item existed before */
  async #commit(group: readonly Write[]): Promise<boolean[]> {
    const ids = group.map(({ id }) => id)
    const items = group.flatMap((write) => (write.kind === 'put' ? [write.item] : []))
    // Read first, so that no image is stored while Milvus is unavailable.
    const before = await this.#imageKeys(ids)
    const rows = await this.#rowsOf(items)
    if (rows.length > 0) {
      await this.#calls
        .call((timeout) => this.#engine.upsert(rows, timeout))
        .catch((error: unknown) => {
          // The rows may have been written all the same.
          this.#replaced.add(rows.map((row) => ({ id: row['id'] as string, key: imageKeyOf(row) })))
          throw error
        })
    } else if (before.size > 0)
      await this.#calls.call((timeout) => this.#engine.delete(hasId(ids), timeout))
    this.#size += rows.length > 0 ? rows.length - before.size : -before.size
    this.#replaced.add([...before].map(([id, key]) => ({ id, key })))
    return ids.map((id) => before.has(id))
  }

  /** Stores the images of all items or of none. */
  async #rowsOf(items: readonly NewItem[]): Promise<Row[]> {
    const { images, fingerprint } = this.#options
    const results = await Promise.allSettled(
      items.map(({ id, image }) => images.put(id, image.bytes)),
    )
    const keys = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    const failure = results.find((result) => result.status === 'rejected')
    if (failure === undefined)
      return items.map((item, at) => rowOf(item, fingerprint, keys[at] as string))
    await this.#discard(keys)
    throw failure.reason
  }

  /** Image keys of the existing ids among `ids`. */
  async #imageKeys(ids: readonly string[]): Promise<Map<string, string>> {
    const rows = await this.#rows(ids, IMAGED)
    return new Map(rows.map((row) => [row['id'] as string, imageKeyOf(row)]))
  }

  /** An image that is not removed only takes space, so errors are ignored. */
  async #discard(keys: readonly string[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#options.images.remove(key).catch(() => undefined)))
  }

  #rows(ids: readonly string[], fields: string[], call?: CallContext): Promise<Row[]> {
    const query = { filter: hasId(ids), output_fields: fields }
    return this.#calls.call((timeout) => this.#engine.query(query, timeout), call)
  }
}
