/** The items in Milvus, with their images in an image store. */
import { setTimeout as pause } from 'node:timers/promises'
import type {
  Asker,
  Filter,
  ListedMilvusItem,
  MilvusItem,
  MilvusItems,
  MilvusOptions,
  NewMilvusItem,
} from './milvus.js'
import { Calls, type EngineStatus } from './calls.js'
import { Engine } from './engine.js'
import { expressionOf, hasId, quoted } from './expression.js'
import { EngineFailure } from './failure.js'
import { Groups } from './write-groups.js'
import { ReplacedImages } from './replaced-images.js'
import { itemOf, LISTED, listedItemOf, imageKeyOf, IMAGED, rowOf, type Row } from './rows.js'
import { embeddingField } from './schema.js'

type Work = { kind: 'put'; item: NewMilvusItem } | { kind: 'remove' }
type Group = readonly { id: string; work: Work }[]

/** Rows of 17 kB each: calls of a megabyte or so. */
const LARGEST_GROUP = 64
const READ_AT_ONCE = 128
const LISTED_AT_ONCE = 1000
const COUNT_EVERY_MS = 30_000
const START_PAUSE_MS = 500
/** A write is on its way for at most as long as one call takes: with much to spare. */
const KEEP_REPLACED_MS = 60_000
/** Of a command, whose user waits with it. */
const PATIENCE_MS = 20_000

export class Items implements MilvusItems {
  readonly #options: MilvusOptions
  readonly #engine: Engine
  readonly #calls: Calls
  readonly #writes: Groups<Work>
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
    this.#writes = new Groups(LARGEST_GROUP, (group) => this.#write(group))
    this.#replaced = new ReplacedImages({
      keepMs: Math.max(KEEP_REPLACED_MS, 2 * timeoutMs),
      named: (ids) => this.#imageKeys(ids),
      remove: (keys) => this.#discard(keys),
    })
    this.#counting = setInterval(() => void this.count().catch(() => undefined), COUNT_EVERY_MS)
    this.#counting.unref()
  }

  async start(patienceMs = PATIENCE_MS): Promise<void> {
    const { address, timeoutMs, report } = this.#options
    const until = performance.now() + patienceMs
    for (let tries = 1; ; tries += 1) {
      try {
        await this.#engine.prepare(timeoutMs)
        this.#size = await this.#engine.count(timeoutMs)
        return
      } catch (error) {
        // What the collection is like is told in words of its own.
        if (!(error instanceof EngineFailure)) throw error
        const isAway = ['unavailable', 'timeout', 'released'].includes(error.kind)
        const sentence = `Milvus at ${address} ${isAway ? 'cannot be used' : 'refused the collection'}: ${error.message}.`
        if (!isAway || this.#isClosed || performance.now() >= until)
          throw new Error(sentence, { cause: error })
        if (tries === 1) report?.(`${sentence} It is tried until it can.`)
        await pause(START_PAUSE_MS)
      }
    }
  }

  get size(): number {
    return this.#size
  }

  get status(): EngineStatus {
    return this.#calls.status
  }

  async count(asker?: Asker): Promise<number> {
    this.#size = await this.#calls.call((timeout) => this.#engine.count(timeout), asker)
    return this.#size
  }

  async recall(
    embedding: Float32Array,
    candidates: number,
    asker: Asker & { filter?: Filter | undefined } = {},
  ) {
    const filter = asker.filter === undefined ? undefined : expressionOf(asker.filter)
    return this.#calls.call(
      (timeout) => this.#engine.search({ embedding, limit: candidates, filter }, timeout),
      asker,
    )
  }

  async getMany(ids: readonly string[], asker?: Asker): Promise<(MilvusItem | undefined)[]> {
    const { fingerprint } = this.#options
    const fields = ['id', embeddingField(fingerprint), 'image_tokens', 'payload', 'about']
    const rows = await this.#rowsWith(ids, fields, asker)
    return rows.map((row) => row && itemOf(row, fingerprint))
  }

  async payloads(
    ids: readonly string[],
    asker?: Asker,
  ): Promise<(MilvusItem['payload'] | undefined)[]> {
    const rows = await this.#rowsWith(ids, LISTED, asker)
    return rows.map((row) => row && listedItemOf(row).payload)
  }

  /** In the order of `ids`; undefined where there is none. */
  async #rowsWith(
    ids: readonly string[],
    fields: string[],
    asker?: Asker,
  ): Promise<(Row | undefined)[]> {
    const parts = Array.from({ length: Math.ceil(ids.length / READ_AT_ONCE) }, (_, part) =>
      ids.slice(part * READ_AT_ONCE, (part + 1) * READ_AT_ONCE),
    )
    const rows = (await Promise.all(parts.map((part) => this.#rows(part, fields, asker)))).flat()
    const found = new Map(rows.map((row) => [row['id'], row]))
    return ids.map((id) => found.get(id))
  }

  async image(id: string, asker?: Asker): Promise<Uint8Array | undefined> {
    let before: string | undefined
    for (;;) {
      const [row] = await this.#rows([id], IMAGED, asker)
      if (row === undefined) return undefined
      const key = imageKeyOf(row)
      const bytes = await this.#options.images.get(key, { signal: asker?.signal })
      // The item may have been replaced after its row was read, and its image with it.
      if (bytes !== undefined || key === before) return bytes
      before = key
    }
  }

  async list(
    { after = '', limit }: { after?: string | undefined; limit: number },
    asker?: Asker,
  ): Promise<ListedMilvusItem[]> {
    return (await this.#page(after, limit, LISTED, asker)).map(listedItemOf)
  }

  async *imageKeys(): AsyncIterable<{ id: string; key: string }> {
    let after = ''
    for (;;) {
      const rows = await this.#page(after, LISTED_AT_ONCE, IMAGED)
      for (const row of rows) yield { id: row['id'] as string, key: imageKeyOf(row) }
      if (rows.length === 0) return
      after = rows.at(-1)?.['id'] as string
    }
  }

  async #page(after: string, limit: number, fields: string[], asker?: Asker): Promise<Row[]> {
    const filter = `id > ${quoted(after)}`
    // As an iterator asks, which is when rows come in the order of their ids.
    const params = { iterator: 'True', reduce_stop_for_best: 'True' }
    const ask = { filter, output_fields: fields, limit, params }
    return this.#calls.call((timeout) => this.#engine.query(ask, timeout), asker)
  }

  async put(item: NewMilvusItem, asker?: Asker): Promise<'created' | 'replaced'> {
    // What cannot be stored is refused for itself, and not with its group.
    rowOf(item, this.#options.fingerprint, '')
    asker?.signal?.throwIfAborted()
    return (await this.#writes.add(item.id, { kind: 'put', item })) ? 'replaced' : 'created'
  }

  remove(id: string): Promise<boolean> {
    return this.#writes.add(id, { kind: 'remove' })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#counting)
    await this.#writes.settled()
    await this.#replaced.end()
    this.#calls.end()
    await this.#engine.close()
  }

  /** @returns of each whether there was one before */
  async #write(group: Group): Promise<boolean[]> {
    const ids = group.map(({ id }) => id)
    const items = group.flatMap(({ work }) => (work.kind === 'put' ? [work.item] : []))
    // First of all: while Milvus is away, no image is stored for nothing.
    const before = await this.#imageKeys(ids)
    const rows = await this.#rowsOf(items)
    if (rows.length > 0) {
      await this.#calls
        .call((timeout) => this.#engine.upsert(rows, timeout))
        .catch((error: unknown) => {
          // They may be there all the same.
          this.#replaced.add(rows.map((row) => ({ id: row['id'] as string, key: imageKeyOf(row) })))
          throw error
        })
    } else if (before.size > 0)
      await this.#calls.call((timeout) => this.#engine.delete(hasId(ids), timeout))
    this.#size += rows.length > 0 ? rows.length - before.size : -before.size
    this.#replaced.add([...before].map(([id, key]) => ({ id, key })))
    return ids.map((id) => before.has(id))
  }

  /** Stores the images, all or none. */
  async #rowsOf(items: readonly NewMilvusItem[]): Promise<Row[]> {
    const { images, fingerprint } = this.#options
    const stored = await Promise.allSettled(
      items.map(({ id, image }) => images.put(id, image.bytes)),
    )
    const keys = stored.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    const failure = stored.find((one) => one.status === 'rejected')
    if (failure === undefined)
      return items.map((item, at) => rowOf(item, fingerprint, keys[at] as string))
    await this.#discard(keys)
    throw failure.reason
  }

  /** Of the ids that there are, as the last write of any service left them. */
  async #imageKeys(ids: readonly string[]): Promise<Map<string, string>> {
    const rows = await this.#rows(ids, IMAGED, undefined, 'strong')
    return new Map(rows.map((row) => [row['id'] as string, imageKeyOf(row)]))
  }

  /** An image that stays behind costs its bytes, and no write has to fail for it. */
  async #discard(keys: readonly string[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#options.images.remove(key).catch(() => undefined)))
  }

  #rows(
    ids: readonly string[],
    fields: string[],
    asker?: Asker,
    consistency?: 'strong',
  ): Promise<Row[]> {
    const ask = {
      filter: hasId(ids),
      output_fields: fields,
      ...(consistency === undefined ? {} : { consistency }),
    }
    return this.#calls.call((timeout) => this.#engine.query(ask, timeout), asker)
  }
}
