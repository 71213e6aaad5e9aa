/**
 * Joins what waits for the same graph into batches while the worker is busy, and takes the graphs in turn, so that a
 * long upload delays a search by one batch at most.
 */
import { TandemError } from '../errors.js'
import type { GraphName, Tensors } from './graphs.js'
import type { Inference } from './inference.js'

/** How inputs of one kind become a batch, and its outputs become results. */
export interface Lane<Input, Result> {
  graph: GraphName
  /** The most weight in one batch; an input that weighs more runs alone. */
  maxWeight: number
  weigh(input: Input): number
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
  submittedAt: number
  queue: number
  inference: number
  settle: (error: Error | undefined) => void
}

interface Entry {
  submission: Submission
  place: number
  input: unknown
}

export class Batcher {
  readonly #inference: Pick<Inference, 'ready' | 'run' | 'unavailable'>
  readonly #maxQueue: number
  /** Waiting entries of each graph, oldest first; the graph that has not had its turn for the longest comes first. */
  readonly #waiting = new Map<GraphName, Set<Entry>>([
    ['text', new Set()],
    ['fusion', new Set()],
    ['image', new Set()],
  ])
  #queueDepth = 0
  #inFlight = 0

  /** @param maxQueue entries that may wait; a submission that would exceed it is refused as `overloaded` */
  constructor(inference: Pick<Inference, 'ready' | 'run' | 'unavailable'>, maxQueue: number) {
    this.#inference = inference
    this.#maxQueue = maxQueue
  }

  get queueDepth(): number {
    return this.#queueDepth
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /**
   * Queues `inputs` and answers their results in the same order. What has not begun when `signal` fires never runs.
   * @throws TandemError `overloaded`, `model_unavailable`; the signal's reason; Error when a batch fails
   */
  submit<Input, Result>(
    lane: Lane<Input, Result>,
    inputs: readonly Input[],
    signal?: AbortSignal,
  ): Promise<Waited<Result>> {
    if (inputs.length === 0) return Promise.resolve({ results: [], queue: 0, inference: 0 })
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      if (!this.#inference.ready) throw this.#inference.unavailable()
      if (this.#queueDepth + inputs.length > this.#maxQueue) throw this.#overloaded()
      const waiting = this.#waiting.get(lane.graph) as Set<Entry>
      const onAbort = (): void => submission.settle(signal?.reason as Error)
      const submission: Submission = {
        lane: lane,
        results: new Array<unknown>(inputs.length),
        remaining: inputs.length,
        submittedAt: performance.now(),
        queue: 0,
        inference: 0,
        settle: (error) => {
          signal?.removeEventListener('abort', onAbort)
          for (const entry of entries) if (waiting.delete(entry)) this.#queueDepth -= 1
          const { results, queue, inference } = submission
          if (error === undefined) resolve({ results: results as Result[], queue, inference })
          else reject(error)
        },
      }
      const entries = inputs.map((input, place): Entry => ({ submission, place, input }))
      for (const entry of entries) waiting.add(entry)
      this.#queueDepth += entries.length
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#pump()
    })
  }

  /** Starts the next batch when the worker is idle; a batch that ends starts the one after it. */
  #pump(): void {
    if (this.#inFlight > 0) return
    const batch = this.#nextBatch()
    const lane = batch[0]?.submission.lane
    if (lane === undefined) return
    this.#inFlight = batch.length
    void this.#run(lane, batch).finally(() => {
      this.#inFlight = 0
      this.#pump()
    })
  }

  #nextBatch(): Entry[] {
    for (const [graph, waiting] of this.#waiting) {
      if (waiting.size === 0) continue
      this.#waiting.delete(graph)
      this.#waiting.set(graph, waiting)
      return this.#take(waiting)
    }
    return []
  }

  #take(waiting: Set<Entry>): Entry[] {
    const batch: Entry[] = []
    let weight = 0
    for (const entry of waiting) {
      const { lane } = entry.submission
      weight += lane.weigh(entry.input)
      if (batch.length > 0 && weight > lane.maxWeight) break
      batch.push(entry)
      waiting.delete(entry)
    }
    this.#queueDepth -= batch.length
    return batch
  }

  async #run(lane: Lane<unknown, unknown>, batch: readonly Entry[]): Promise<void> {
    const submissions = new Set(batch.map(({ submission }) => submission))
    const startedAt = performance.now()
    for (const submission of submissions) submission.queue = startedAt - submission.submittedAt
    try {
      const inputs = batch.map(({ input }) => input)
      const { outputs, milliseconds } = await this.#inference.run(lane.graph, lane.assemble(inputs))
      const results = lane.split(outputs, inputs)
      for (const submission of submissions) submission.inference += milliseconds
      batch.forEach(({ submission, place }, i) => {
        submission.results[place] = results[i]
        submission.remaining -= 1
        if (submission.remaining === 0) submission.settle(undefined)
      })
    } catch (error) {
      for (const submission of submissions) submission.settle(error as Error)
      if (!this.#inference.ready) this.#failWaiting()
    }
  }

  /** Fails everything that waits, because there is no worker to wait for. */
  #failWaiting(): void {
    for (const waiting of this.#waiting.values()) {
      for (const { submission } of [...waiting]) submission.settle(this.#inference.unavailable())
    }
  }

  #overloaded(): TandemError {
    return new TandemError(
      'overloaded',
      `${this.#queueDepth} inputs wait for the model, and ${this.#maxQueue} may; try again in a moment.`,
      { retryAfterS: 1 },
    )
  }
}
