/** The importer's side of the process that runs foreign graphs. */
import { BundleError } from '../model/bundle/bundle.js'
import { availableCores } from '../model/inference/cpu-quota.js'
import type { GraphSpec, Tensors } from '../model/onnx/graph-inputs.js'
import { floatsOf } from '../model/onnx/tensors.js'
import { cosine } from '../vector-index/normalise.js'
import { WorkerProcess } from '../worker/worker-process.js'
import type { Commands } from './graph-worker.js'

/** A run of one input takes seconds at most. */
const RUN_TIMEOUT_MS = 120_000

export class GraphRunner {
  readonly #process: WorkerProcess<Commands>

  private constructor(process: WorkerProcess<Commands>) {
    this.#process = process
  }

  static async start(): Promise<GraphRunner> {
    return new GraphRunner(
      await WorkerProcess.start<Commands>({
        name: 'graph runner',
        module: new URL('./graph-worker.js', import.meta.url),
        code: 'model_unavailable',
        subject: 'The process that runs the graph',
      }),
    )
  }

  /** @throws BundleError when the runtime refuses the graph */
  async open(path: string): Promise<void> {
    await sentences(this.#process.call('open', { path, threads: availableCores() }))
  }

  /** @throws BundleError when the service would refuse the graph */
  async check(path: string, spec: GraphSpec): Promise<void> {
    await sentences(this.#process.call('check', { path, spec, threads: availableCores() }))
  }

  /**
   * The rows of a float output, each L2-normalised.
   * @throws BundleError when the run fails or the output has another form
   */
  async embed(
    inputs: Tensors,
    output: string,
  ): Promise<{ rows: Float64Array[]; milliseconds: number }> {
    const { outputs, milliseconds } = await sentences(
      this.#process.call('run', { inputs, wanted: [output] }, RUN_TIMEOUT_MS),
    )
    const [count = 0, width = 0, ...more] = outputs[output]?.dims ?? []
    if (outputs[output]?.type !== 'float32' || width === 0 || more.length > 0)
      throw new BundleError(
        `The output ${output} is ${outputs[output]?.type ?? 'missing'} [${[count, width, ...more].join(', ')}]; expected one vector of float32 for each input.`,
      )
    const data = floatsOf(outputs, output)
    const rows = Array.from({ length: count }, (_, row) =>
      normalised(data.subarray(row * width, (row + 1) * width)),
    )
    return { rows, milliseconds }
  }

  /** Frees the memory of the open graph. */
  async release(): Promise<void> {
    await this.#process.call('close', null)
  }

  close(): Promise<void> {
    return this.#process.close()
  }
}

/** Errors of the runtime are about the model that the user chose. */
async function sentences<Value>(call: Promise<Value>): Promise<Value> {
  return call.catch((error: Error) => {
    throw new BundleError(error.message)
  })
}

function normalised(row: Float32Array): Float64Array {
  const norm = Math.hypot(...row)
  return Float64Array.from(row, (value) => value / norm)
}

/** The least cosine of the rows of two lists; NaN counts as 0. */
export function leastCosine(a: readonly Float64Array[], b: readonly Float64Array[]): number {
  if (a.length !== b.length) return 0
  return Math.min(1, ...a.map((row, at) => cosine(row, b[at] ?? []) || 0))
}
