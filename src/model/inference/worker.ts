/**
 * The process that runs the graphs. A run blocks its thread, and a crash of the runtime ends this
 * process alone. Closed sessions leak (onnxruntime#25325), so each bundle and provider gets a new
 * process.
 */
import { answerCalls } from '../../worker/answer-calls.js'
import type { Need } from './process-plan.js'
import { largestBatch, searchOnCpu, searchOnDevice, type BatchLimits } from './autotune.js'
import { ownTokens, type Bundle, type Manifest } from '../bundle/bundle.js'
import { readBundleFile } from '../bundle/bundle-file.js'
import type { Execution } from '../onnx/provider.js'
import {
  graphSpecs,
  type GraphName,
  type GraphSpec,
  type Tensor,
  type Tensors,
} from '../onnx/graph-inputs.js'
import { readPixels } from './pixel-files.js'
import { GraphCache } from './graph-cache.js'
import { runtimeVersion, Session } from '../onnx/session.js'

/** The batch sizes and needs of a process. */
export interface Measurement {
  limits: BatchLimits
  /** Tokens of padding that cost as much as another batch. */
  padding: number
  need: Need
}

export interface Commands {
  /**
   * Loads the graphs of a verified bundle, from the cache if it is complete. `filledCache` tells
   * that this process filled it, which takes more memory than loading from it. `remark` is a
   * sentence for the log, if earlier processes ended with the cached graphs.
   */
  open: {
    input: {
      bundle: Bundle
      execution: Execution
      graphCacheFolder: string | null
      /** Whether another process of this start has compared the digests of the cache. */
      isCacheVerified: boolean
      /** A name of this run of the service, in which ids of processes are unique. */
      service: string
    }
    output: { filledCache: boolean; remark?: string }
  }
  /** Finds the batch sizes that suit the device by running some. */
  measure: { input: null; output: Measurement }
  /** Runs one batch for the `wanted` outputs, all by default; `milliseconds` is the run alone. */
  run: {
    input: { graph: GraphName; inputs: Tensors; wanted?: readonly string[] | undefined }
    output: { outputs: Tensors; milliseconds: number }
  }
}

interface Loaded {
  session: Session
  spec: GraphSpec
}

/** Smaller graphs load quickly and need little memory without the cache. */
const MIN_CACHED_BYTES = 4 * 2 ** 20

const graphs: Partial<Record<GraphName, Loaded>> = {}
let search = searchOnCpu(1)
let cache: GraphCache<Measurement> | null = null
/** Cached graphs that have not run in this process. */
const untried = new Set<GraphName>()

answerCalls<Commands>({
  open: async ({ bundle, execution, graphCacheFolder, isCacheVerified, service }) => {
    const { provider, threads } = execution
    const { manifest, fingerprint } = bundle
    const longest = Math.min(
      manifest.text_encoder.max_tokens,
      ownTokens(manifest)?.max_tokens ?? Infinity,
    )
    search = provider === 'cpu' ? searchOnCpu(threads, longest) : searchOnDevice(longest)
    const specs = Object.entries(graphSpecs(manifest)) as [GraphName, GraphSpec][]
    const isCached = provider === 'cpu' && bytesOf(manifest, specs) >= MIN_CACHED_BYTES
    cache =
      isCached && graphCacheFolder !== null
        ? new GraphCache(graphCacheFolder, fingerprint, runtimeVersion, service)
        : null
    const crashes = (await cache?.marks.crashes()) ?? 0
    const remark = cache === null ? undefined : remarkOn(crashes, cache.folder)
    if (crashes > 1) cache = null
    if (crashes === 0 && cache !== null && (await cache.isComplete(isCacheVerified))) {
      const files = cache
      const isLoaded = await files.marks
        .during(() =>
          load(specs, (graph, spec) => Session.openCached(files.fileOf(graph), spec, execution)),
        )
        .then(
          () => true,
          () => false,
        )
      if (isLoaded) {
        for (const [graph] of specs) untried.add(graph)
        return { filledCache: false }
      }
      // The cache is made again.
    }
    const open = async (spec: GraphSpec, cacheFile?: string): Promise<Session> =>
      Session.open(await readBundleFile(bundle, spec.file), spec, execution, cacheFile)
    // The attempt without the cache below reports what is wrong with a graph.
    const filledCache = await cache
      ?.make((fileOf) => load(specs, (graph, spec) => open(spec, fileOf(graph))), crashes > 0)
      .then(
        () => true,
        () => false,
      )
    if (filledCache !== true) await load(specs, (_, spec) => open(spec))
    return { filledCache: filledCache === true, ...(remark === undefined ? {} : { remark }) }
  },
  measure: async () => {
    const saved = await cache?.measured()
    if (saved != null) return saved
    const limits = { ...search.least }
    let [image, padding] = [0, 0]
    for (const graph of ['image', 'text', 'tokens', 'fusion'] as const) {
      const loaded = graphs[graph]
      if (loaded === undefined) continue
      const { limit, pace, overhead } = await largestBatch(graph, loaded.spec, search, (inputs) =>
        runGraph(graph, loaded, inputs),
      )
      limits[graph] = limit
      if (graph === 'image') image = pace
      if (graph === 'text') padding = overhead
    }
    const measurement = { limits, padding, need: { memory: process.memoryUsage.rss(), image } }
    await cache?.saveMeasured(measurement)
    return measurement
  },
  run: async ({ graph, inputs, wanted }) => {
    const loaded = graphs[graph]
    if (loaded === undefined) throw new Error(`No ${graph} graph has been loaded.`)
    const started = performance.now()
    const outputs = await runGraph(graph, loaded, withRows(inputs), wanted).catch(
      (error: Error) => {
        throw new Error(`The ${graph} graph failed: ${error.message}`)
      },
    )
    return { outputs, milliseconds: performance.now() - started }
  },
})

/** The first run of a cached graph leaves a mark if it ends the process. */
async function runGraph(
  graph: GraphName,
  { session }: Loaded,
  inputs: Tensors,
  wanted?: readonly string[],
): Promise<Tensors> {
  const run = (): Promise<Tensors> => session.run(inputs, wanted)
  if (cache === null || !untried.has(graph)) return run()
  const outputs = await cache.marks.during(run)
  untried.delete(graph)
  if (untried.size === 0) cache.marks.trust()
  return outputs
}

/** @param crashes - in how many versions of the cached graphs a process has ended */
function remarkOn(crashes: number, folder: string): string | undefined {
  if (crashes === 0) return undefined
  const ended = `A process ended while it loaded the graphs cached in ${folder} or first ran one`
  return crashes === 1
    ? `${ended}; they are made again.`
    : `${ended}, also after they were made again; the cache is not used. Remove the folder to try it again.`
}

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

/** Reads rows that are in files. */
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
