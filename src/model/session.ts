/** One graph, loaded and checked. The only importer of onnxruntime-node. */
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import { BundleError } from './bundle-error.js'
import { checkGraphFile } from './graph-file.js'
import type { GraphSpec, Tensor, Tensors, TensorSpec } from './graphs.js'
import { tryGraph } from './trial.js'

export class Session {
  readonly #session: InferenceSession

  private constructor(session: InferenceSession) {
    this.#session = session
  }

  /**
   * @param threads for one run; 0 leaves the choice to the runtime
   * @throws BundleError when the runtime refuses the graph, or its inputs and outputs are not those of `spec`, neither as
   *   declared nor in a trial run
   */
  static async open(bytes: Uint8Array, spec: GraphSpec, threads: number): Promise<Session> {
    checkGraphFile(bytes, spec.file)
    const session = await InferenceSession.create(bytes, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
    }).catch((error: Error) => {
      throw new BundleError(`${spec.file} is not a graph that can be run: ${error.message}`)
    })
    checkTensors(spec.file, 'input', session.inputMetadata, spec.inputs)
    checkTensors(spec.file, 'output', session.outputMetadata, spec.outputs)
    const opened = new Session(session)
    await tryGraph(spec, (inputs) => opened.run(inputs))
    return opened
  }

  /** Blocks the thread until the outputs are there. */
  async run(inputs: Tensors): Promise<Tensors> {
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, { type, data, dims }]) => [name, new OrtTensor(type, data, dims)]),
    )
    const outputs = await this.#session.run(feeds)
    return Object.fromEntries(
      Object.entries(outputs).map(([name, { type, data, dims }]) => [name, { type, data, dims } as Tensor]),
    )
  }
}

function checkTensors(
  file: string,
  kind: 'input' | 'output',
  found: readonly InferenceSession.ValueMetadata[],
  expected: Readonly<Record<string, TensorSpec>>,
): void {
  const actual = new Map(found.map((value) => [value.name, value.isTensor ? describe(value.type, value.shape) : 'no tensor']))
  const names = Object.keys(expected)
  const wrong = names.filter((name) => !fits(found.find((value) => value.name === name), expected[name]))
  if (wrong.length === 0 && actual.size === names.length) return
  const list = (entries: Iterable<readonly [string, string]>): string =>
    [...entries].map(([name, text]) => `${name} ${text}`).join(', ')
  const wanted = Object.entries(expected).map(([name, { type, shape }]) => [name, describe(type, shape)] as const)
  throw new BundleError(`${file} has the ${kind}s ${list(actual)}; expected are ${list(wanted)}.`)
}

/** Whether a graph's value is a tensor of that type whose fixed axes agree with the fixed axes of `spec`. */
function fits(value: InferenceSession.ValueMetadata | undefined, spec: TensorSpec | undefined): boolean {
  if (value === undefined || spec === undefined || !value.isTensor || value.type !== spec.type) return false
  if (value.shape.length !== spec.shape.length) return false
  // A batch axis that the graph fixes would fail at the first batch of another size: it must be open in both.
  return spec.shape.every((axis, i) => {
    const size = value.shape[i]
    const open = typeof size !== 'number' || size < 0
    return axis === null ? open : open || size === axis
  })
}

function describe(type: string, shape: readonly (number | string | null)[]): string {
  return `${type} [${shape.map((axis) => axis ?? '*').join(', ')}]`
}
