/** One graph, loaded on a provider and checked. The only importer of onnxruntime-node. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import type { InferenceSession } from 'onnxruntime-node'
import { BundleError } from '../bundle/bundle.js'
import type { Execution, Provider } from './provider.js'
import { checkGraphFile } from './graph-file.js'
import { checkTensors } from './graph-tensors.js'
import type { GraphSpec, Tensor, Tensors } from './graph-inputs.js'
import { computesInHalf } from './half-precision.js'
import { providerFault } from './provider-check.js'
import { dryRun } from './dry-run.js'

// onnxruntime sends telemetry to Microsoft unless this is set before it is loaded.
process.env.ORT_DISABLE_TELEMETRY = '1'
const onnxruntime = await import('onnxruntime-node')

/** What the runtime tries for each operator, in this order, before it leaves it to the CPU. */
const TRIED: Readonly<Record<Provider, readonly Provider[]>> = {
  cpu: ['cpu'],
  cuda: ['cuda'],
  tensorrt: ['tensorrt', 'cuda'],
}

/** Of the runtime. */
export const runtimeVersion = onnxruntime.env.versions.node ?? ''
/** Bytes: what is larger than this is mapped from a file, where graphs are prepared. */
const MIN_MAPPED_BYTES = 1024
/**
 * Their weights, mapped in the layout of the kernel, end the process that computes with them
 * (onnxruntime 1.30).
 */
const LAID_OUT_ELSEWHERE = ['MatMulNBits', 'MatMulInteger']

export class Session {
  readonly #session: InferenceSession

  private constructor(session: InferenceSession) {
    this.#session = session
  }

  /**
   * @param keepAt - where the graph is kept as the runtime has optimised it for this processor,
   *   weights in a file beside it
   * @throws BundleError when the runtime refuses the graph or the provider, when its inputs and
   *   outputs are not those of `spec`, neither as declared nor in a trial run, or when another
   *   provider did the work of that run
   */
  static async open(
    bytes: Uint8Array,
    spec: GraphSpec,
    execution: Execution,
    keepAt?: string,
  ): Promise<Session> {
    const { provider } = execution
    checkGraphFile(bytes, spec.file)
    if (provider !== 'cpu') return Session.#onDevice(bytes, spec, execution)
    if (spec.precision === 'fp16' || computesInHalf(bytes, spec.file)) {
      throw new BundleError(
        `${spec.file} computes in half precision (fp16), which is for a GPU; the cpu takes fp32 and int8.`,
      )
    }
    return Session.#tried(
      bytes,
      spec,
      execution,
      keepAt === undefined ? {} : keeping(keepAt, bytes),
    )
  }

  /**
   * Opens what `open` has kept, which was tried then: what a run leaves behind in memory is left to
   * what is asked for.
   * @throws BundleError
   */
  static openCached(file: string, spec: GraphSpec, execution: Execution): Promise<Session> {
    return Session.#create(file, spec, execution, { graphOptimizationLevel: 'disabled' })
  }

  /** On a GPU the trial run is profiled, which tells who did the work. */
  static async #onDevice(
    bytes: Uint8Array,
    spec: GraphSpec,
    execution: Execution,
  ): Promise<Session> {
    const { provider } = execution
    const found = onnxruntime.listSupportedBackends().map(({ name }) => name)
    if (!found.includes(provider))
      throw new BundleError(
        `This build of onnxruntime knows ${found.join(', ')}, but not ${provider}.`,
      )
    const folder = await mkdtemp(join(tmpdir(), 'tandem-profile-'))
    try {
      const profiling = { enableProfiling: true, profileFilePrefix: join(folder, 'run') }
      const opened = await Session.#tried(bytes, spec, execution, profiling)
      opened.#session.endProfiling()
      const [name = ''] = await readdir(folder)
      const fault = providerFault(await readFile(join(folder, name), 'utf8'), provider)
      if (fault !== null) throw new BundleError(`${spec.file} ${fault}.`)
      return opened
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  static async #tried(
    bytes: Uint8Array,
    spec: GraphSpec,
    execution: Execution,
    options: InferenceSession.SessionOptions,
  ): Promise<Session> {
    const opened = await Session.#create(bytes, spec, execution, options)
    await dryRun(spec, (inputs) => opened.run(inputs))
    return opened
  }

  static async #create(
    graph: Uint8Array | string,
    spec: GraphSpec,
    { provider, device, threads }: Execution,
    options: InferenceSession.SessionOptions,
  ): Promise<Session> {
    const { file } = spec
    const all: InferenceSession.SessionOptions = {
      executionProviders: TRIED[provider].map((name) => ({ name, deviceId: device })),
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      // A plan for each shape that was seen takes as much memory again as a run, and saves no time
      // that could be measured.
      enableMemPattern: false,
      logSeverityLevel: 3,
      ...options,
    }
    const created =
      typeof graph === 'string'
        ? onnxruntime.InferenceSession.create(graph, all)
        : onnxruntime.InferenceSession.create(graph, all)
    const session = await created.catch((error: Error) => {
      const where = provider === 'cpu' ? '' : ` on ${provider}, device ${device}`
      throw new BundleError(`${file} is not a graph that can be run${where}: ${error.message}`)
    })
    checkTensors(file, 'input', session.inputMetadata, spec.inputs)
    checkTensors(file, 'output', session.outputMetadata, spec.outputs)
    return new Session(session)
  }

  /**
   * Blocks the thread until the outputs are there.
   * @param wanted - their names; all by default
   */
  async run(inputs: Tensors, wanted?: readonly string[]): Promise<Tensors> {
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, { type, data, dims }]) => [
        name,
        new onnxruntime.Tensor(type, data, dims),
      ]),
    )
    const outputs = await (wanted === undefined
      ? this.#session.run(feeds)
      : this.#session.run(feeds, wanted))
    return Object.fromEntries(
      Object.entries(outputs).map(([name, { type, data, dims }]) => [
        name,
        { type, data, dims } as Tensor,
      ]),
    )
  }
}

/**
 * Weights are kept in the layout that the kernels want them in, so that no process makes a copy of
 * its own.
 */
function keeping(file: string, graph: Uint8Array): InferenceSession.SessionOptions {
  const bytes = Buffer.from(graph.buffer, graph.byteOffset, graph.byteLength)
  const laidOut = !LAID_OUT_ELSEWHERE.some((operator) => bytes.includes(operator))
  const session = {
    optimized_model_external_initializers_file_name: `${basename(file)}.weights`,
    optimized_model_external_initializers_min_size_in_bytes: String(MIN_MAPPED_BYTES),
    save_external_prepacked_constant_initializers: laidOut ? '1' : '0',
  }
  return { optimizedModelFilePath: file, extra: { session } }
}
