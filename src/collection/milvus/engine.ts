import { setTimeout as pause } from 'node:timers/promises'
import {
  ConsistencyLevelEnum,
  DataType,
  MilvusClient,
  type FieldType,
} from '@zilliz/milvus2-sdk-node'
import { HNSW, type Neighbour } from '../../vector-index/vector-index.js'
import { checkStatus, EngineFailure, failureOf, type Status } from './failure.js'
import type { MilvusOptions } from './milvus.js'
import type { Row } from './rows.js'
import { checkFields, embeddingField, fieldsOf, type DescribedField } from './schema.js'

/** Services have to find at once what one of them has acknowledged. */
const STRONG = { consistency_level: ConsistencyLevelEnum.Strong }
const MIN_EF = 64
/** Concurrent calls on the one connection. */
const MAX_CALLS = 100
const LOAD_POLL_MS = 200

/** Single calls to Milvus, without retries. They throw EngineFailure. */
export class Engine {
  readonly #client: MilvusClient
  readonly #options: MilvusOptions
  readonly #name: { collection_name: string }

  constructor(options: MilvusOptions) {
    const { address, token, database, timeoutMs, collection } = options
    this.#options = options
    this.#name = { collection_name: collection }
    this.#client = new MilvusClient({
      address,
      ...(token === undefined ? {} : { token }),
      ...(database === undefined ? {} : { database }),
      timeout: timeoutMs,
      // `Calls` retries.
      maxRetries: 0,
      logLevel: 'error',
      telemetry: { enabled: false },
      pool: { min: 1, max: MAX_CALLS, acquireTimeoutMillis: timeoutMs },
      // Reconnects soon after an outage.
      channelOptions: {
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 2000,
        'grpc.enable_retries': 0,
      },
    })
    // The first call reports an engine that is away.
    this.#client.connectPromise.catch(() => undefined)
  }

  /**
   * Makes the collection and its indexes if they are missing; other services may do so at the same
   * time.
   * @throws Error for a collection of another bundle, or one without the fields of items
   */
  async prepare(timeout: number): Promise<void> {
    const { collection, fingerprint, dim } = this.#options
    await this.#connect()
    let failure: unknown
    const { value: exists } = await this.#checked(() =>
      this.#client.hasCollection({ ...this.#name, timeout }),
    )
    if (exists !== true) {
      const fields = fieldsOf(fingerprint, dim).map(
        (field) => ({ ...field, data_type: DataType[field.data_type] }) as FieldType,
      )
      const description = `Items of Tandem, by the bundle ${fingerprint}`
      const creation = this.#checked(() =>
        this.#client.createCollection({ ...this.#name, description, fields, timeout }),
      )
      // May fail because another service has just made it: describe it in any case.
      failure = await creation.then(
        () => undefined,
        (error: unknown) => error,
      )
    }
    const described = await this.#checked(() =>
      this.#client.describeCollection({ ...this.#name, timeout }),
    ).catch((error: unknown) => {
      throw failure ?? error
    })
    checkFields(
      collection,
      described.schema.fields as unknown as DescribedField[],
      fingerprint,
      dim,
    )
    const field = embeddingField(fingerprint)
    const index = {
      index_type: 'HNSW',
      metric_type: 'COSINE',
      params: { M: HNSW.m, efConstruction: HNSW.efConstruction },
    }
    await this.#index({ field_name: field, ...index }, timeout)
    // Optional: it makes filters faster, and not every engine has it.
    await this.#index({ field_name: 'terms', index_type: 'INVERTED' }, timeout).catch(
      () => undefined,
    )
    await this.load(timeout)
  }

  /** Loads the collection into memory; a no-op if it is loaded. */
  async load(timeout: number): Promise<void> {
    const until = performance.now() + timeout
    await this.#checked(() => this.#client.loadCollection({ ...this.#name, timeout }))
    for (;;) {
      const { progress } = await this.#checked(() =>
        this.#client.getLoadingProgress({ ...this.#name, timeout }),
      )
      if (Number(progress) >= 100) return
      if (performance.now() + LOAD_POLL_MS >= until)
        throw new EngineFailure('timeout', `the collection is loaded to ${progress} %`)
      await pause(LOAD_POLL_MS)
    }
  }

  async upsert(rows: Row[], timeout: number): Promise<void> {
    const data = rows as Record<string, never>[]
    const { err_index: refused } = await this.#checked(() =>
      this.#client.upsert({ ...this.#name, data, timeout }),
    )
    if (refused?.length > 0)
      throw new EngineFailure('failed', `Milvus refused ${refused.length} of ${rows.length} rows`)
  }

  async delete(filter: string, timeout: number): Promise<void> {
    await this.#checked(() => this.#client.deleteEntities({ ...this.#name, filter, timeout }))
  }

  async query(
    query: {
      filter: string
      output_fields: string[]
      limit?: number
      params?: Record<string, string>
    },
    timeout: number,
  ): Promise<Row[]> {
    const reply = await this.#checked(() =>
      this.#client.query({ ...this.#name, ...query, ...STRONG, timeout }),
    )
    return reply.data
  }

  /** @returns the nearest by cosine, best first */
  async search(
    query: { embedding: Float32Array; limit: number; filter: string | undefined },
    timeout: number,
  ): Promise<Neighbour[]> {
    const { embedding, limit, filter } = query
    const answer = await this.#checked(() =>
      this.#client.search({
        ...this.#name,
        anns_field: embeddingField(this.#options.fingerprint),
        data: Array.from(embedding),
        limit,
        params: { ef: Math.max(limit * 2, MIN_EF) },
        ...(filter === undefined ? {} : { filter }),
        output_fields: ['id'],
        ...STRONG,
        timeout,
      }),
    )
    return answer.results.map(({ id, score }) => ({
      id,
      similarity: Math.max(-1, Math.min(1, score)),
    }))
  }

  async count(timeout: number): Promise<number> {
    const answer = await this.#checked(() => this.#client.count({ ...this.#name, timeout }))
    return Number(answer.data)
  }

  async close(): Promise<void> {
    await this.#client.closeConnection()
  }

  /** The client connects once, when it is made. After a failure it has to be told to retry. */
  async #connect(): Promise<void> {
    try {
      await this.#client.connectPromise.catch(() => {
        this.#client.connect(MilvusClient.sdkInfo.version)
        return this.#client.connectPromise
      })
    } catch (error) {
      throw failureOf(error)
    }
  }

  /** Makes an index if it is missing; another service may make it at the same time. */
  async #index(index: { field_name: string; index_type: string }, timeout: number): Promise<void> {
    const { field_name: field } = index
    const exists = async (): Promise<boolean> => {
      const reply = await this.#checked(() =>
        this.#client.describeIndex({ ...this.#name, field_name: field, timeout }),
      ).catch(() => null)
      return reply?.index_descriptions.some(({ field_name: name }) => name === field) === true
    }
    if (await exists()) return
    await this.#checked(() => this.#client.createIndex({ ...this.#name, ...index, timeout })).catch(
      async (error: unknown) => {
        if (!(await exists())) throw error
      },
    )
  }

  async #checked<Answer>(call: () => Promise<Answer>): Promise<Answer> {
    try {
      const answer = await call()
      const { status, ...own } = answer as { status?: Status } & Status
      checkStatus(status ?? own)
      return answer
    } catch (error) {
      throw failureOf(error)
    }
  }
}
