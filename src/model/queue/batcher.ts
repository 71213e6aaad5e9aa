/**
 * Joins inputs that wait for the same graph into batches while the workers are busy. Graphs take
 * turns, so that a long upload delays a search by one batch at most. Interactive work goes first.
 */
import { TandemError } from '../../errors.js'
import type { BatchSizes, Call } from '../models.js'
import { Admission } from './admission.js'
import { BatchCounter } from './batch-sizes.js'
import { CostModel } from './cost-model.js'
import { kindOf, type GraphKind, type GraphName, type Tensors } from '../onnx/graph-inputs.js'
import type { InferencePool } from '../inference/pool.js'
import type { Priority } from '../../async/priority.js'
import { Queue } from './queue.js'

/** How inputs of one kind become a batch, and its outputs become results. */
export interface Lane<Input, Result> {
  graph: GraphName
  /** Maximum weight of a batch; a heavier input runs alone. */
  maxWeight: number
  weigh(input: Input): number
  /** Set where rows are padded to the longest one: the length of a row, the maximum padding. */
  rowLength?(input: Input): number
  maxPadding?: number
  assemble(inputs: readonly Input[]): Tensors
  /** One result for each input, in order. */
  split(outputs: Tensors, inputs: readonly Input[]): Result[]
}

/** `queue`: longest wait of an input; `inference`: sum of its batches. Milliseconds. */
export interface Waited<Result> {
  results: Result[]
  queue: number
  inference: number
}

/** One call of `submit`; settled when its last input is done or its first one fails. */
interface Submission {
  lane: Lane<unknown, unknown>
  results: unknown[]
  remaining: number
  embeddingOnly: boolean
  settled: boolean
  submittedAt: number
  queue: number
  inference: number
  settle: (error: Error | undefined) => void
}

interface Entry {
  graph: GraphName
  priority: Priority
  client: string | undefined
  weight: number
  rowLength: number
  submission: Submission
  place: number
  input: unknown
}

/** Target duration of a bulk batch, for which interactive inputs may have to wait. */
const BULK_BATCH_MS = 50
/** Stands for the cost of an input before the first batch of its graph. */
const UNKNOWN_MS = 1

/** Runs batches, one in each process. */
export type Runner = Pick<InferencePool, 'ready' | 'size' | 'free' | 'run' | 'unavailable'>

export class Batcher {
  readonly #inference: Runner
  readonly #maxQueue: number
  readonly #queue: Queue<Entry>
  readonly #costs: CostModel
  readonly #admission: Admission
  /** When each running batch should end. */
  readonly #ends = new Set<{ at: number }>()
  readonly #counters = {
    text: new BatchCounter('text'),
    image: new BatchCounter('image'),
    fusion: new BatchCounter('fusion'),
    tokens: new BatchCounter('tokens'),
  } satisfies Record<GraphKind, BatchCounter>
  #inFlight = 0

  /**
   * @param maxQueue - inputs that may wait; a submission beyond it is refused as `overloaded`, but
   *   for clients with less than their share of it
   */
  constructor(inference: Runner, maxQueue: number) {
    this.#inference = inference
    this.#maxQueue = maxQueue
    const costs = new CostModel(inference.size)
    this.#costs = costs
    this.#queue = new Queue(({ graph, weight }) => costs.milliseconds(graph, weight) || UNKNOWN_MS)
    this.#admission = new Admission(this.#queue, costs, inference.size)
  }

  get queueDepth(): number {
    return this.#queue.size
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** Of each graph. */
  get batches(): readonly BatchSizes[] {
    return Object.values(this.#counters).map((counter) => counter.read())
  }

  /**
   * Refuses inputs that would miss the deadline of their call. Called before any work for them.
   * @param weight - sum of all inputs
   * @param before - milliseconds until they can be submitted
   * @throws TandemError `overloaded`
   */
  admit(graph: GraphName, weight: number, call: Call = {}, before = 0): void {
    this.#admission.admit(graph, weight, call, before)
  }

  /**
   * Queues `inputs` and returns their results in order. Inputs that have not started when the
   * call's signal aborts never run.
   * @throws TandemError `overloaded`, `model_unavailable`; the signal's reason; Error when a batch
   *   fails
   */
  submit<Input, Result>(
    lane: Lane<Input, Result>,
    inputs: readonly Input[],
    call: Call = {},
  ): Promise<Waited<Result>> {
    if (inputs.length === 0) return Promise.resolve({ results: [], queue: 0, inference: 0 })
    const { signal, priority = 'interactive', client, pairsAhead = 0, embeddingOnly = false } = call
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      if (!this.#inference.ready) throw this.#inference.unavailable()
      if (!this.#hasRoom(inputs.length, client)) throw this.#overloaded()
      const { graph } = lane
      const onAbort = (): void => submission.settle(signal?.reason as Error)
      const submission: Submission = {
        lane: lane,
        results: new Array<unknown>(inputs.length),
        remaining: inputs.length,
        embeddingOnly,
        settled: false,
        submittedAt: performance.now(),
        queue: 0,
        inference: 0,
        settle: (error) => {
          signal?.removeEventListener('abort', onAbort)
          if (!submission.settled) this.#admission.expectPairs(call, -pairsAhead)
          submission.settled = true
          for (const entry of entries) this.#queue.delete(entry)
          const { results, queue, inference } = submission
          if (error === undefined) resolve({ results: results as Result[], queue, inference })
          else reject(error)
        },
      }
      const entries = inputs.map((input, place): Entry => {
        return {
          graph,
          priority,
          client,
          weight: lane.weigh(input),
          rowLength: lane.rowLength?.(input) ?? 0,
          submission,
          place,
          input,
        }
      })
      for (const entry of entries) this.#queue.add(entry)
      this.#admission.expectPairs(call, pairsAhead)
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#pump()
    })
  }

  /** A full queue still takes what is within the share of a client. */
  #hasRoom(count: number, client: string | undefined): boolean {
    if (this.#queue.size + count <= this.#maxQueue) return true
    const clients = this.#queue.all().map((entry) => entry.client)
    const own = clients.filter((one) => one === client).length
    return own + count <= this.#maxQueue / new Set([...clients, client]).size
  }

  /** Starts a batch on each idle worker; the end of a batch starts the next one. */
  #pump(): void {
    if (!this.#inference.ready) this.#failWaiting()
    while (this.#inference.free > 0) {
      const batch = this.#queue.take(
        (first) => this.#limit(first),
        ({ submission }) => submission.lane.maxPadding ?? Infinity,
      )
      const [first] = batch
      if (first === undefined) return
      this.#inFlight += batch.length
      void this.#run(first, batch).finally(() => {
        this.#inFlight -= batch.length
        this.#pump()
      })
    }
  }

  /** The waiting weight is shared among the free workers. */
  #limit({ graph, priority, submission }: Entry): number {
    const { maxWeight } = submission.lane
    const limit =
      priority === 'bulk'
        ? Math.min(maxWeight, this.#costs.weightWithin(graph, BULK_BATCH_MS))
        : maxWeight
    return Math.min(
      limit,
      Math.ceil(this.#queue.weightOf({ graph, priority }) / this.#inference.free),
    )
  }

  async #run(
    { graph, priority, submission: { lane } }: Entry,
    batch: readonly Entry[],
  ): Promise<void> {
    const submissions = new Set(batch.map(({ submission }) => submission))
    const weight = batch.reduce((sum, entry) => sum + entry.weight, 0)
    const startedAt = performance.now()
    const end = { at: startedAt + this.#costs.milliseconds(graph, weight) }
    this.#counters[kindOf(graph)].add(batch.length)
    this.#ends.add(end)
    this.#expectIdle()
    for (const submission of submissions) submission.queue = startedAt - submission.submittedAt
    try {
      const inputs = batch.map(({ input }) => input)
      // Copying unused tokens from the worker costs time.
      const wanted = batch.every(({ submission }) => submission.embeddingOnly)
        ? ['embedding']
        : undefined
      const { outputs, milliseconds } = await this.#inference.run(
        graph,
        lane.assemble(inputs),
        wanted,
      )
      const results = lane.split(outputs, inputs)
      const now = performance.now()
      // With the time for sending, for which the next batch waits too.
      this.#costs.observe(
        { graph, weight, milliseconds: now - startedAt, bulk: priority === 'bulk' },
        now,
      )
      for (const submission of submissions) submission.inference += milliseconds
      batch.forEach(({ submission, place }, i) => {
        submission.results[place] = results[i]
        submission.remaining -= 1
        if (submission.remaining === 0) submission.settle(undefined)
      })
    } catch (error) {
      for (const submission of submissions) submission.settle(error as Error)
    } finally {
      this.#ends.delete(end)
      this.#expectIdle()
    }
  }

  /** 0 while a worker is idle. */
  #expectIdle(): void {
    const ends = [...this.#ends].map(({ at }) => at)
    this.#admission.idleAt = ends.length < this.#inference.size ? 0 : Math.min(...ends)
  }

  /** Called when no worker is left. */
  #failWaiting(): void {
    for (const { submission } of this.#queue.all()) submission.settle(this.#inference.unavailable())
  }

  #overloaded(): TandemError {
    return new TandemError(
      'overloaded',
      `${this.#queue.size} inputs wait for the model, and ${this.#maxQueue} may; try again in a moment.`,
      { retryAfterS: 1, reason: 'model_queue' },
    )
  }
}
