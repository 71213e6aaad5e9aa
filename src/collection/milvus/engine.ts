/** The calls of Milvus that the items need; what fails is an EngineFailure. */
import { setTimeout as pause } from 'node:timers/promises'
import {
  ConsistencyLevelEnum,
  DataType,
  MilvusClient,
  type FieldType,
} from '@zilliz/milvus2-sdk-node'
import type { MilvusOptions } from './milvus.js'
import { checkStatus, EngineFailure, failureOf, type Status } from './failure.js'
import { checkFields, embeddingField, fieldsOf, type DescribedField } from './schema.js'

export type Consistency = 'strong' | 'bounded' | 'session' | 'eventually'

export type EngineOptions = Omit<MilvusOptions, 'images' | 'report'>

type Row = Record<string, unknown>

const LEVELS = {
  strong: ConsistencyLevelEnum.Strong,
  bounded: ConsistencyLevelEnum.Bounded,
  session: ConsistencyLevelEnum.Session,
  eventually: ConsistencyLevelEnum.Eventually,
} as const

/** Those of the embedded index. */
const M = 16
const EF_CONSTRUCTION = 200
const LEAST_EF = 64
/** Calls at a time; they share a connection. What waits longer than a call may take is given up. */
const MOST_CALLS = 100
const LOAD_PAUSE_MS = 200

export class Engine {
  readonly #client: MilvusClient
  readonly #options: EngineOptions
  readonly #name: { collection_name: string }

  constructor(options: EngineOptions) {
    const { address, token, database, timeoutMs, collection } = options
    this.#options = options
    this.#name = { collection_name: collection }
    this.#client = new MilvusClient({
      address,
      ...(token === undefined ? {} : { token }),
      ...(database === undefined ? {} : { database }),
      timeout: timeoutMs,
      // Who calls decides what is tried again, and for how long.
      maxRetries: 0,
      logLevel: 'error',
      telemetry: { enabled: false },
      pool: { min: 1, max: MOST_CALLS, acquireTimeoutMillis: timeoutMs },
      // An engine that comes back is found soon.
      channelOptions: {
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 2000,
        'grpc.enable_retries': 0,
      },
    })
    // Whether it is there shows in the first call.
    this.#client.connectPromise.catch(() => undefined)
  }

  /**
   * Makes the collection and its indexes where they are missing; other services may be at it, too.
   * @throws Error where the collection is of another bundle, or not of items
   */
  async prepare(timeout: number): Promise<void> {
    const { collection, fingerprint, dim } = this.#options
    await this.#greet()
    let failure: unknown
    const { value: exists } = await this.#asked(() =>
      this.#client.hasCollection({ ...this.#name, timeout }),
    )
    if (exists !== true) {
      const fields = fieldsOf(fingerprint, dim).map(
        (field) => ({ ...field, data_type: DataType[field.data_type] }) as FieldType,
      )
      const description = `Items of Tandem, by the bundle ${fingerprint}`
      // Made by another service in the meantime, it is looked at as any other.
      const made = this.#asked(() =>
        this.#client.createCollection({ ...this.#name, description, fields, timeout }),
      )
      failure = await made.then(
        () => undefined,
        (error: unknown) => error,
      )
    }
    const described = await this.#asked(() =>
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
      params: { M, efConstruction: EF_CONSTRUCTION },
    }
    await this.#index({ field_name: field, ...index }, timeout)
    // Without it filters are answered more slowly, and not every engine has it.
    await this.#index({ field_name: 'terms', index_type: 'INVERTED' }, timeout).catch(
      () => undefined,
    )
    await this.load(timeout)
  }

  /** Makes the collection ready to be searched, which nothing happens to where it is. */
  async load(timeout: number): Promise<void> {
    const until = performance.now() + timeout
    await this.#asked(() => this.#client.loadCollection({ ...this.#name, timeout }))
    for (;;) {
      const { progress } = await this.#asked(() =>
        this.#client.getLoadingProgress({ ...this.#name, timeout }),
      )
      if (Number(progress) >= 100) return
      if (performance.now() + LOAD_PAUSE_MS >= until)
        throw new EngineFailure('timeout', `the collection is loaded to ${progress} %`)
      await pause(LOAD_PAUSE_MS)
    }
  }

  async upsert(rows: Row[], timeout: number): Promise<void> {
    const data = rows as Record<string, never>[]
    const { err_index: refused } = await this.#asked(() =>
      this.#client.upsert({ ...this.#name, data, timeout }),
    )
    if (refused?.length > 0)
      throw new EngineFailure('failed', `Milvus refused ${refused.length} of ${rows.length} rows`)
  }

  async delete(filter: string, timeout: number): Promise<void> {
    await this.#asked(() => this.#client.deleteEntities({ ...this.#name, filter, timeout }))
  }

  /** @param consistency - that of the options where it is undefined */
  async query(
    ask: {
      filter: string
      output_fields: string[]
      limit?: number
      params?: Record<string, string>
      consistency?: Consistency
    },
    timeout: number,
  ): Promise<Row[]> {
    const { consistency, ...rest } = ask
    const level = { consistency_level: LEVELS[consistency ?? this.#options.consistency] }
    return (
      await this.#asked(() => this.#client.query({ ...this.#name, ...rest, ...level, timeout }))
    ).data
  }

  /** @returns ids and cosines, best first */
  async search(
    ask: { embedding: Float32Array; limit: number; filter: string | undefined },
    timeout: number,
  ): Promise<{ id: string; similarity: number }[]> {
    const { embedding, limit, filter } = ask
    const answer = await this.#asked(() =>
      this.#client.search({
        ...this.#name,
        anns_field: embeddingField(this.#options.fingerprint),
        data: Array.from(embedding),
        limit,
        params: { ef: Math.max(limit * 2, LEAST_EF) },
        ...(filter === undefined ? {} : { filter }),
        output_fields: ['id'],
        consistency_level: LEVELS[this.#options.consistency],
        timeout,
      }),
    )
    return answer.results.map(({ id, score }) => ({
      id,
      similarity: Math.max(-1, Math.min(1, score)),
    }))
  }

  async count(timeout: number): Promise<number> {
    const answer = await this.#asked(() => this.#client.count({ ...this.#name, timeout }))
    return Number(answer.data)
  }

  async close(): Promise<void> {
    await this.#client.closeConnection()
  }

  /**
   * The client greets Milvus once, as it is made; where that failed it would never make a
   * collection.
   */
  async #greet(): Promise<void> {
    try {
      await this.#client.connectPromise.catch(() => {
        this.#client.connect(MilvusClient.sdkInfo.version)
        return this.#client.connectPromise
      })
    } catch (error) {
      throw failureOf(error)
    }
  }

  /** Makes an index, unless there is one, or another service makes it at this moment. */
  async #index(index: { field_name: string; index_type: string }, timeout: number): Promise<void> {
    const { field_name: field } = index
    const exists = async (): Promise<boolean> => {
      const known = await this.#asked(() =>
        this.#client.describeIndex({ ...this.#name, field_name: field, timeout }),
      ).catch(() => null)
      return known?.index_descriptions.some(({ field_name: name }) => name === field) === true
    }
    if (await exists()) return
    await this.#asked(() => this.#client.createIndex({ ...this.#name, ...index, timeout })).catch(
      async (error: unknown) => {
        if (!(await exists())) throw error
      },
    )
  }

  async #asked<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    try {
      const answer = await ask()
      const { status, ...own } = answer as { status?: Status } & Status
      checkStatus(status ?? own)
      return answer
    } catch (error) {
      throw failureOf(error)
    }
  }
}
