/** The service's side of a process that runs the graphs. */
import type { TandemError } from '../../errors.js'
import { Refusal } from '../../worker/child.js'
import { WorkerProcess, type Report, type WorkerStatus } from '../../worker/worker-process.js'
import { BundleError } from '../bundle/bundle.js'
import type { GraphName, Tensors } from '../onnx/graph-inputs.js'
import type { Commands, Measurement } from './worker.js'

export type BatchResult = Commands['run']['output']

/** The bundle and where it runs; the same for each restart. */
export type InferenceStart = Commands['open']['input']

export class Inference {
  /** Whether it filled the graph cache; a process that loads from the cache needs less memory. */
  readonly filledCache: boolean
  readonly #process: WorkerProcess<Commands>

  private constructor(process: WorkerProcess<Commands>, filledCache: boolean) {
    this.#process = process
    this.filledCache = filledCache
  }

  /**
   * Starts the process and waits until its graphs are loaded.
   * @param remark - gets what is wrong with the graph cache, from each process
   * @throws BundleError when the graphs cannot be loaded
   */
  static async open(start: InferenceStart, report?: Report, remark?: Report): Promise<Inference> {
    let filledCache = false
    const process = await WorkerProcess.start<Commands>({
      name: 'inference',
      module: new URL('./worker.js', import.meta.url),
      code: 'model_unavailable',
      subject: 'The model',
      report,
      open: async (call) => {
        const opened = await call('open', start).catch((error: unknown) => {
          throw error instanceof Refusal ? new BundleError(error.message) : error
        })
        filledCache = opened.filledCache
        if (opened.remark !== undefined) remark?.(opened.remark)
      },
    })
    return new Inference(process, filledCache)
  }

  /** False while there is no process. */
  get ready(): boolean {
    return this.#process.ready
  }

  get status(): WorkerStatus {
    return this.#process.status
  }

  /** Measures which batch sizes suit the device; takes some hundred milliseconds. */
  measure(): Promise<Measurement> {
    return this.#process.call('measure', null)
  }

  /**
   * Runs one batch.
   * @param wanted - names of outputs; all by default
   * @throws TandemError `model_unavailable` while there is no process, or when it dies
   */
  run(graph: GraphName, inputs: Tensors, wanted?: readonly string[]): Promise<BatchResult> {
    return this.#process.call('run', { graph, inputs, wanted })
  }

  /** The error of calls while there is no process. */
  unavailable(): TandemError {
    return this.#process.unavailable()
  }

  /** Resolves when the running batch is done and the process has ended. */
  close(): Promise<void> {
    return this.#process.close()
  }
}
