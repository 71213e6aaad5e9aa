/** The main thread's side of the worker: one batch at a time, and a new worker when it dies. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { TandemError } from '../errors.js'
import { BundleError } from './bundle-error.js'
import type { GraphName, Tensors } from './graphs.js'
import { buffersOf } from './tensors.js'
import { STOP, type BatchReply, type BatchRequest, type WorkerStart } from './worker-messages.js'

export interface BatchResult {
  outputs: Tensors
  /** Of the run alone. */
  milliseconds: number
}

const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 30_000

export class Inference {
  readonly #start: WorkerStart
  #worker: Worker | null = null
  #ready = false
  #closed = false
  #pauseMs = FIRST_PAUSE_MS
  #timer: NodeJS.Timeout | undefined
  #running: { resolve: (result: BatchResult) => void; reject: (error: Error) => void } | null = null

  private constructor(start: WorkerStart) {
    this.#start = start
  }

  /**
   * Starts the worker and waits until its graphs are loaded.
   * @throws BundleError when the graphs cannot be loaded
   */
  static async open(start: WorkerStart): Promise<Inference> {
    const inference = new Inference(start)
    await inference.#launch()
    return inference
  }

  /** False while there is no worker: a batch would be refused. */
  get ready(): boolean {
    return this.#ready
  }

  /**
   * Runs one batch; the buffers of `inputs` are gone afterwards. Not to be called while another batch runs.
   * @throws TandemError `model_unavailable` when the worker is away or dies meanwhile
   */
  run(graph: GraphName, inputs: Tensors): Promise<BatchResult> {
    return new Promise((resolve, reject) => {
      if (this.#worker === null || !this.#ready) {
        reject(this.unavailable())
        return
      }
      this.#running = { resolve, reject }
      const request: BatchRequest = { graph, inputs }
      this.#worker.postMessage(request, buffersOf(inputs))
    })
  }

  /** What a caller is told while there is no worker. */
  unavailable(): TandemError {
    return this.#closed
      ? new TandemError('model_unavailable', 'The model has been closed: the service is stopping.')
      : new TandemError('model_unavailable', 'The model stopped unexpectedly and is being started again.', {
          retryAfterS: Math.ceil(this.#pauseMs / 1000),
        })
  }

  /** Resolves when the batch under way has been answered and the worker has ended. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    if (this.#worker === null) return
    const ended = once(this.#worker, 'exit')
    // Asked, not terminated: a thread that is ended inside native code can take the process with it.
    this.#worker.postMessage(STOP)
    await ended
  }

  /** Resolves when the worker is ready, rejects when it ends or refuses before that. */
  #launch(): Promise<void> {
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: this.#start })
      this.#worker = worker
      let cause: Error | undefined
      worker.on('message', (reply: BatchReply) => {
        if (reply.kind === 'ready') {
          this.#ready = true
          resolve()
        } else if (reply.kind === 'refused') {
          cause = new BundleError(reply.message)
        } else {
          this.#settle(reply)
        }
      })
      worker.on('error', (error: Error) => {
        cause = error
      })
      worker.on('exit', (code) => {
        const wasReady = this.#ready
        this.#ready = false
        this.#worker = null
        reject(cause ?? new Error(`The model's worker ended with code ${code}.`))
        this.#running?.reject(this.unavailable())
        this.#running = null
        if (wasReady && !this.#closed) this.#restartLater()
      })
    })
  }

  #settle(reply: Extract<BatchReply, { kind: 'done' | 'failed' }>): void {
    const running = this.#running
    this.#running = null
    if (reply.kind === 'failed') {
      running?.reject(new Error(reply.message))
    } else {
      this.#pauseMs = FIRST_PAUSE_MS
      running?.resolve(reply)
    }
  }

  /** Each failure doubles the pause; a batch that ran resets it. */
  #restartLater(): void {
    this.#timer = setTimeout(() => {
      this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS)
      this.#launch().catch(() => {
        if (!this.#closed) this.#restartLater()
      })
    }, this.#pauseMs)
  }
}
