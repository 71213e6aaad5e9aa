/**
 * The process that runs the graphs: a run blocks its thread, and what the runtime does not survive
 * ends this process alone. A session that is made again leaks, so another bundle, another provider
 * or a fresh start is another process.
 */
import { answerCalls } from '../../worker/answer-calls.js'
import type { Need } from './process-plan.js'
import { largestBatch, searchOnCpu, searchOnDevice, type BatchLimits } from './autotune.js'
import type { Bundle } from '../bundle/bundle.js'
import { readBundleFile } from '../bundle/bundle-file.js'
import type { Execution } from '../onnx/provider.js'
import {
  graphSpecs,
  type GraphName,
  type GraphSpec,
  type Tensor,
  type Tensors,
} from '../onnx/graph-inputs.js'
import type { Manifest } from '../bundle/bundle.js'
import { readPixels } from './pixel-files.js'
import { GraphCache } from './graph-cache.js'
import { runtimeVersion, Session } from '../onnx/session.js'

/** What a process has found about itself. */
export interface Found {
  limits: BatchLimits
  /** Tokens of padding that cost as much as another batch. */
  padding: number
  need: Need
}

export interface Commands {
  /**
   * Loads the graphs of the bundle, whose manifest has been checked. Where there is a place for
   * prepared graphs they are loaded from there; `prepared` tells that they were not there, and now
   * are: a process that has prepared graphs holds more memory than one that loads them.
   */
  open: {
    input: { bundle: Bundle; execution: Execution; graphCacheFolder: string | null }
    output: { prepared: boolean }
  }
  /** Finds the batches that suit the device by running some. */
  measure: { input: null; output: Found }
  /**
   * Runs one batch for the outputs that are `wanted`, all by default; `milliseconds` are of the run
   * alone.
   */
  run: {
    input: { graph: GraphName; inputs: Tensors; wanted?: readonly string[] | undefined }
    output: { outputs: Tensors; milliseconds: number }
  }
}

interface Loaded {
  session: Session
  spec: GraphSpec
}

/**
 * Bytes of graphs: smaller ones are loaded as quickly as they are, and need no memory to speak of.
 */
const MIN_CACHED_BYTES = 4 * 2 ** 20

const graphs: Partial<Record<GraphName, Loaded>> = {}
let search = searchOnCpu(1)
let prepared: GraphCache<Found> | null = null

answerCalls<Commands>({
  open: async ({ bundle, execution, graphCacheFolder }) => {
    const { provider, threads } = execution
    const { manifest, fingerprint } = bundle
    search =
      provider === 'cpu' ? searchOnCpu(threads) : searchOnDevice(manifest.text_encoder.max_tokens)
    const specs = Object.entries(graphSpecs(manifest)) as [GraphName, GraphSpec][]
    const isWorthIt = provider === 'cpu' && bytesOf(manifest, specs) >= MIN_CACHED_BYTES
    prepared =
      isWorthIt && graphCacheFolder !== null
        ? new GraphCache(graphCacheFolder, fingerprint, runtimeVersion)
        : null
    if (prepared !== null && (await prepared.isComplete())) {
      const files = prepared
      await load(specs, (graph, spec) => Session.openCached(files.fileOf(graph), spec, execution))
      return { prepared: false }
    }
    const open = async (spec: GraphSpec, keepAt?: string): Promise<Session> =>
      Session.open(await readBundleFile(bundle, spec.file), spec, execution, keepAt)
    // What is wrong with a graph is told by the attempt that keeps nothing.
    const kept = await prepared
      ?.make((fileOf) => load(specs, (graph, spec) => open(spec, fileOf(graph))))
      .then(
        () => true,
        () => false,
      )
    if (kept !== true) await load(specs, (_, spec) => open(spec))
    return { prepared: kept === true }
  },
  measure: async () => {
    const known = await prepared?.measured()
    if (known != null) return known
    const limits = { ...search.least }
    let [image, padding] = [0, 0]
    for (const [graph, { session, spec }] of Object.entries(graphs) as [GraphName, Loaded][]) {
      const { limit, pace, overhead } = await largestBatch(graph, spec, search, (inputs) =>
        session.run(inputs),
      )
      limits[graph] = limit
      if (graph === 'image') image = pace
      if (graph === 'text') padding = overhead
    }
    const found = { limits, padding, need: { memory: process.memoryUsage.rss(), image } }
    await prepared?.saveMeasured(found)
    return found
  },
  run: async ({ graph, inputs, wanted }) => {
    const loaded = graphs[graph]
    if (loaded === undefined) throw new Error(`No ${graph} graph has been loaded.`)
    const started = performance.now()
    const outputs = await loaded.session.run(withRows(inputs), wanted).catch((error: Error) => {
      throw new Error(`The ${graph} graph failed: ${error.message}`)
    })
    return { outputs, milliseconds: performance.now() - started }
  },
})

async function load(
  specs: readonly [GraphName, GraphSpec][],
  open: (graph: GraphName, spec: GraphSpec) => Promise<Session>,
): Promise<void> {
  for (const [graph, spec] of specs) graphs[graph] = { session: await open(graph, spec), spec }
}

function bytesOf({ files }: Manifest, specs: readonly [GraphName, GraphSpec][]): number {
  const names = specs.map(([, { file }]) => file)
  return files.reduce((sum, { path, bytes }) => sum + (names.includes(path) ? bytes : 0), 0)
}

/** Rows that lie in files, taken from there. */
function withRows(inputs: Tensors): Tensors {
  const read = (tensor: Tensor): Tensor => {
    if (tensor.type !== 'uint8' || tensor.files === undefined) return tensor
    const { dims, files } = tensor
    const data = new Uint8Array(dims.reduce((product, size) => product * size, 1))
    const length = data.length / files.length
    files.forEach((file, row) => readPixels(file, data.subarray(row * length, (row + 1) * length)))
    return { type: 'uint8', data, dims }
  }
  return Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, read(tensor)]))
}
