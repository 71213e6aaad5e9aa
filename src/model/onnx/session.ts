/** One graph, loaded on a provider and checked. The only importer of onnxruntime-node. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import type { InferenceSession } from 'onnxruntime-node'
import { BundleError } from '../bundle/bundle.js'
import type { Execution, Provider } from './provider.js'
import { checkTensors, type DeclaredValue } from './graph-tensors.js'
import type { GraphSpec, Tensor, Tensors } from './graph-inputs.js'
import { providerFault } from './provider-check.js'
import { dryRun } from './dry-run.js'

// onnxruntime sends telemetry to Microsoft unless this is set before it is loaded.
process.env.ORT_DISABLE_TELEMETRY = '1'
const onnxruntime = await import('onnxruntime-node')

/** Providers that the runtime tries for each operator, in order, before the CPU. */
const PROVIDERS: Readonly<Record<Provider, readonly Provider[]>> = {
  cpu: ['cpu'],
  cuda: ['cuda'],
  tensorrt: ['tensorrt', 'cuda'],
}

/** Version of the runtime. */
export const runtimeVersion = onnxruntime.env.versions.node ?? ''

/** The arena of the runtime would double with the weights. */
const FRUGAL = { use_device_allocator_for_initializers: '1' }

export class Session {
  readonly #session: InferenceSession

  private constructor(session: InferenceSession) {
    this.#session = session
  }

  /**
   * Opens a graph and dry-runs it.
   * @param cacheFile - where to save the graph as optimised for this processor, with its weights in
   *   a file next to it
   * @throws BundleError when the runtime refuses the graph or the provider; when inputs or outputs
   *   differ from `spec`, as declared or in the dry run; when another provider computed the dry run
   */
  static async open(
    bytes: Uint8Array,
    spec: GraphSpec,
    execution: Execution,
    cacheFile?: string,
  ): Promise<Session> {
    const { provider } = execution
    // Loaded here: a start from the cache reads no graph, and the reader takes 50 ms of CPU.
    const [{ checkGraphFile }, { computesInHalf }, { canPrepack, MIN_MAPPED_BYTES }] =
      await Promise.all([
        import('./graph-file.js'),
        import('./half-precision.js'),
        import('./mapped-weights.js'),
      ])
    checkGraphFile(bytes, spec.file)
    if (provider !== 'cpu') return Session.#onDevice(bytes, spec, execution)
    if (spec.precision === 'fp16' || computesInHalf(bytes, spec.file)) {
      throw new BundleError(
        `${spec.file} computes in half precision (fp16), which is for a GPU; the cpu takes fp32 and int8.`,
      )
    }
    return Session.#dryRun(
      bytes,
      spec,
      execution,
      cacheFile === undefined
        ? {}
        : cacheOptions(cacheFile, MIN_MAPPED_BYTES, canPrepack(bytes, spec.file)),
    )
  }

  /**
   * Opens a graph that `open` cached. Not dry-run again: the first real run warms its buffers.
   * @throws BundleError
   */
  static openCached(file: string, spec: GraphSpec, execution: Execution): Promise<Session> {
    return Session.#create(file, spec, execution, { graphOptimizationLevel: 'disabled' })
  }

  /**
   * Opens a graph of a bundle as `open` does, from its file, which takes less memory. The caller
   * has checked which operators and files it uses.
   * @throws BundleError as `open`
   */
  static async openFile(path: string, spec: GraphSpec, threads: number): Promise<Session> {
    const execution = { provider: 'cpu', device: 0, threads } as const
    return Session.#dryRun(path, spec, execution, { extra: { session: FRUGAL } })
  }

  /**
   * Opens a graph that belongs to no bundle, on the CPU and unchanged. The caller has checked which
   * operators and files it uses.
   * @throws BundleError when the runtime refuses it
   */
  static async openForeign(
    path: string,
    threads: number,
  ): Promise<{ session: Session; inputs: DeclaredValue[]; outputs: DeclaredValue[] }> {
    const execution = { provider: 'cpu', device: 0, threads } as const
    const session = await Session.#load(path, basename(path), execution, {
      graphOptimizationLevel: 'disabled',
      extra: { session: { ...FRUGAL, disable_prepacking: '1' } },
    })
    return {
      session: new Session(session),
      inputs: [...session.inputMetadata],
      outputs: [...session.outputMetadata],
    }
  }

  /** On a GPU, the profile of the dry run tells which provider computed it. */
  static async #onDevice(
    bytes: Uint8Array,
    spec: GraphSpec,
    execution: Execution,
  ): Promise<Session> {
    const { provider } = execution
    const supported = onnxruntime.listSupportedBackends().map(({ name }) => name)
    if (!supported.includes(provider))
      throw new BundleError(
        `This build of onnxruntime supports ${supported.join(', ')}, but not ${provider}.`,
      )
    const folder = await mkdtemp(join(tmpdir(), 'tandem-profile-'))
    try {
      const profiling = { enableProfiling: true, profileFilePrefix: join(folder, 'run') }
      const opened = await Session.#dryRun(bytes, spec, execution, profiling)
      opened.#session.endProfiling()
      const [name = ''] = await readdir(folder)
      const fault = providerFault(await readFile(join(folder, name), 'utf8'), provider)
      if (fault !== null) throw new BundleError(`${spec.file} ${fault}.`)
      return opened
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  static async #dryRun(
    graph: Uint8Array | string,
    spec: GraphSpec,
    execution: Execution,
    options: InferenceSession.SessionOptions,
  ): Promise<Session> {
    const opened = await Session.#create(graph, spec, execution, options)
    await dryRun(spec, (inputs) => opened.run(inputs))
    return opened
  }

  static async #create(
    graph: Uint8Array | string,
    spec: GraphSpec,
    execution: Execution,
    options: InferenceSession.SessionOptions,
  ): Promise<Session> {
    const session = await Session.#load(graph, spec.file, execution, options)
    checkTensors(spec.file, 'input', session.inputMetadata, spec.inputs)
    checkTensors(spec.file, 'output', session.outputMetadata, spec.outputs)
    return new Session(session)
  }

  static async #load(
    graph: Uint8Array | string,
    file: string,
    { provider, device, threads }: Execution,
    options: InferenceSession.SessionOptions,
  ): Promise<InferenceSession> {
    const all: InferenceSession.SessionOptions = {
      executionProviders: PROVIDERS[provider].map((name) => ({ name, deviceId: device })),
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      // Memory plans for each shape double the memory of a run and save no measurable time.
      enableMemPattern: false,
      logSeverityLevel: 3,
      ...options,
    }
    const created =
      typeof graph === 'string'
        ? onnxruntime.InferenceSession.create(graph, all)
        : onnxruntime.InferenceSession.create(graph, all)
    return created.catch((error: Error) => {
      const where = provider === 'cpu' ? '' : ` on ${provider}, device ${device}`
      throw new BundleError(`${file} is not a graph that can be run${where}: ${error.message}`)
    })
  }

  /** Frees the memory of the graph; it does not run again. */
  release(): Promise<void> {
    return this.#session.release()
  }

  /**
   * Blocks the thread during the run.
   * @param wanted - names of outputs; all by default
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

/** @param isPrepacked - in the layout of the kernels, so that no process needs its own copy */
function cacheOptions(
  file: string,
  minMappedBytes: number,
  isPrepacked: boolean,
): InferenceSession.SessionOptions {
  const session = {
    optimized_model_external_initializers_file_name: `${basename(file)}.weights`,
    optimized_model_external_initializers_min_size_in_bytes: String(minMappedBytes),
    save_external_prepacked_constant_initializers: isPrepacked ? '1' : '0',
  }
  return { optimizedModelFilePath: file, extra: { session } }
}
