/**
 * Joins what waits for the same graph into batches while the workers are busy. The graphs take
 * turns, so that a long upload delays a search by one batch at most, and bulk waits for what is
 * interactive.
 */
import { TandemError } from '../../errors.js'
import type { Call } from '../models.js'
import { Admission } from './admission.js'
import { CostModel } from './cost-model.js'
import type { GraphName, Tensors } from '../onnx/graph-inputs.js'
import type { InferencePool } from '../inference/pool.js'
import type { Priority } from '../../async/priority.js'
import { Queue } from './queue.js'

/** How inputs of one kind become a batch, and its outputs become results. */
export interface Lane<Input, Result> {
  graph: GraphName
  /** The most weight in one batch; an input that weighs more runs alone. */
  maxWeight: number
  weigh(input: Input): number
  /**
   * Where the rows of a batch are padded to the longest one: the length of this one, and how much
   * is worth another batch.
   */
  rowLength?(input: Input): number
  maxPadding?: number
  assemble(inputs: readonly Input[]): Tensors
  /** One result for each input, in their order. */
  split(outputs: Tensors, inputs: readonly Input[]): Result[]
}

/** Milliseconds: the longest wait of an input, and the sum of the batches that they ran in. */
export interface Waited<Result> {
  results: Result[]
  queue: number
  inference: number
}

/** One call of `submit`, settled when its last input is done or its first one fails. */
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
  weight: number
  rowLength: number
  submission: Submission
  place: number
  input: unknown
}

/**
 * An interactive input never waits longer than this for a bulk batch that runs, unless one input
 * takes longer.
 */
const BULK_BATCH_MS = 50

/** What runs batches, several at a time where there are several GPUs. */
export type Runner = Pick<InferencePool, 'ready' | 'size' | 'free' | 'run' | 'unavailable'>

export class Batcher {
  readonly #inference: Runner
  readonly #maxQueue: number
  readonly #waiting = new Queue<Entry>()
  readonly #forecast: CostModel
  readonly #admission: Admission
  /** When each batch that runs should have ended. */
  readonly #ends = new Set<{ at: number }>()
  #inFlight = 0

  /**
   * @param maxQueue entries that may wait; a submission that would exceed it is refused as
   * `overloaded`
   */
  constructor(inference: Runner, maxQueue: number) {
    this.#inference = inference
    this.#maxQueue = maxQueue
    this.#forecast = new CostModel(inference.size)
    this.#admission = new Admission(this.#waiting, this.#forecast, inference.size)
  }

  get queueDepth(): number {
    return this.#waiting.size
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /**
   * Refuses inputs that could not be done before the deadline of their call; to be asked before the
   * first of them is submitted, and before anything is spent on them.
   *
   * @param weight - of all inputs together
   * @param before - milliseconds that go by until they can be submitted
   * @throws TandemError `overloaded`
   */
  admit(graph: GraphName, weight: number, call: Call = {}, before = 0): void {
    this.#admission.admit(graph, weight, call, before)
  }

  /**
   * Queues `inputs` and answers their results in the same order. What has not begun when the call's
   * signal fires never runs.
   * @throws TandemError `overloaded`, `model_unavailable`; the signal's reason; Error when a batch
   *   fails
   */
  submit<Input, Result>(
    lane: Lane<Input, Result>,
    inputs: readonly Input[],
    call: Call = {},
  ): Promise<Waited<Result>> {
    if (inputs.length === 0) return Promise.resolve({ results: [], queue: 0, inference: 0 })
    const { signal, priority = 'interactive', pairsAhead = 0, embeddingOnly = false } = call
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      if (!this.#inference.ready) throw this.#inference.unavailable()
      if (this.#waiting.size + inputs.length > this.#maxQueue) throw this.#overloaded()
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
          if (!submission.settled) this.#admission.expectPairs(priority, -pairsAhead)
          submission.settled = true
          for (const entry of entries) this.#waiting.delete(entry)
          const { results, queue, inference } = submission
          if (error === undefined) resolve({ results: results as Result[], queue, inference })
          else reject(error)
        },
      }
      const entries = inputs.map((input, place): Entry => {
        return {
          graph,
          priority,
          weight: lane.weigh(input),
          rowLength: lane.rowLength?.(input) ?? 0,
          submission,
          place,
          input,
        }
      })
      for (const entry of entries) this.#waiting.add(entry)
      this.#admission.expectPairs(priority, pairsAhead)
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#pump()
    })
  }

  /** Starts a batch on each worker that is idle; a batch that ends starts the one after it. */
  #pump(): void {
    if (!this.#inference.ready) this.#failWaiting()
    while (this.#inference.free > 0) {
      const batch = this.#waiting.take(
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

  /** What waits is shared among the workers that are free. */
  #limit({ graph, priority, submission }: Entry): number {
    const { maxWeight } = submission.lane
    const most =
      priority === 'bulk'
        ? Math.min(maxWeight, this.#forecast.weightWithin(graph, BULK_BATCH_MS))
        : maxWeight
    return Math.min(
      most,
      Math.ceil(this.#waiting.weightOf({ graph, priority }) / this.#inference.free),
    )
  }

  async #run(
    { graph, priority, submission: { lane } }: Entry,
    batch: readonly Entry[],
  ): Promise<void> {
    const submissions = new Set(batch.map(({ submission }) => submission))
    const weight = batch.reduce((sum, entry) => sum + entry.weight, 0)
    const startedAt = performance.now()
    const end = { at: startedAt + this.#forecast.milliseconds(graph, weight) }
    this.#ends.add(end)
    this.#expectIdle()
    for (const submission of submissions) submission.queue = startedAt - submission.submittedAt
    try {
      const inputs = batch.map(({ input }) => input)
      // Tokens that nobody in the batch wants are not brought over from the worker.
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
      // The way to the worker and back is part of what the next one has to wait for.
      this.#forecast.observe(
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

  /** Where a worker is idle, nothing that runs has to be waited for. */
  #expectIdle(): void {
    const ends = [...this.#ends].map(({ at }) => at)
    this.#admission.idleAt = ends.length < this.#inference.size ? 0 : Math.min(...ends)
  }

  /** Fails everything that waits, because there is no worker to wait for. */
  #failWaiting(): void {
    for (const { submission } of this.#waiting.all())
      submission.settle(this.#inference.unavailable())
  }

  #overloaded(): TandemError {
    return new TandemError(
      'overloaded',
      `${this.#waiting.size} inputs wait for the model, and ${this.#maxQueue} may; try again in a moment.`,
      { retryAfterS: 1 },
    )
  }
}
