/** The service's side of one process that runs the graphs. */
import type { TandemError } from '../../errors.js'
import { Refusal } from '../../worker/child.js'
import { WorkerProcess, type Report, type WorkerStatus } from '../../worker/worker-process.js'
import { BundleError } from '../bundle/bundle.js'
import type { GraphName, Tensors } from '../onnx/graph-inputs.js'
import type { Commands, Found } from './worker.js'

export type BatchResult = Commands['run']['output']

/** The bundle to run, and what on. A process that is started again must not load another one. */
export type InferenceStart = Commands['open']['input']

export class Inference {
  /** Whether it has prepared graphs: another process that loads them needs less memory. */
  readonly prepared: boolean
  readonly #process: WorkerProcess<Commands>

  private constructor(process: WorkerProcess<Commands>, prepared: boolean) {
    this.#process = process
    this.prepared = prepared
  }

  /**
   * Starts the process and waits until its graphs are loaded.
   * @throws BundleError when the graphs cannot be loaded
   */
  static async open(start: InferenceStart, report?: Report): Promise<Inference> {
    let prepared = false
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
        prepared = opened.prepared
      },
    })
    return new Inference(process, prepared)
  }

  /** False while there is no process: a batch would be refused. */
  get ready(): boolean {
    return this.#process.ready
  }

  get status(): WorkerStatus {
    return this.#process.status
  }

  /** Tries which batches suit it, which takes some hundred milliseconds. */
  measure(): Promise<Found> {
    return this.#process.call('measure', null)
  }

  /**
   * Runs one batch.
   * @param wanted - names of outputs; all by default
   * @throws TandemError `model_unavailable` when the process is away or dies meanwhile
   */
  run(graph: GraphName, inputs: Tensors, wanted?: readonly string[]): Promise<BatchResult> {
    return this.#process.call('run', { graph, inputs, wanted })
  }

  /** What a caller is told while there is no process. */
  unavailable(): TandemError {
    return this.#process.unavailable()
  }

  /** Resolves when the batch under way has been answered and the process has ended. */
  close(): Promise<void> {
    return this.#process.close()
  }
}
