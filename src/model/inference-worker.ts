/**
 * The process that runs the graphs: a run blocks its thread, and what the runtime does not survive ends this process
 * alone. A session that is made again leaks, so another bundle, another provider or a fresh start is another process.
 */
import { answerCalls } from '../worker-process.js'
import type { Need } from './arrangement.js'
import { largestBatch, searchOnCpu, searchOnDevice, type BatchLimits } from './batch-limits.js'
import { openBundle, readBundleFile } from './bundle.js'
import { BundleError } from './bundle-error.js'
import type { Execution } from './execution.js'
import { graphSpecs, type GraphName, type GraphSpec, type Tensors } from './graphs.js'
import { Session } from './session.js'

/** What a process has found about itself. */
export interface Found {
  limits: BatchLimits
  /** Tokens of padding that cost as much as another batch. */
  padding: number
  need: Need
}

export interface Commands {
  /** Loads the graphs of the bundle in `folder`, which must be the one with that fingerprint. */
  open: { ask: { folder: string; fingerprint: string; execution: Execution }; answer: null }
  /** Finds the batches that suit the device by running some. */
  measure: { ask: null; answer: Found }
  /** Runs one batch; `milliseconds` are of the run alone. */
  run: { ask: { graph: GraphName; inputs: Tensors }; answer: { outputs: Tensors; milliseconds: number } }
}

interface Loaded {
  session: Session
  spec: GraphSpec
}

const graphs: Partial<Record<GraphName, Loaded>> = {}
let search = searchOnCpu(1)

answerCalls<Commands>({
  open: async ({ folder, fingerprint, execution }) => {
    const bundle = await openBundle(folder)
    if (bundle.fingerprint !== fingerprint) {
      throw new BundleError(
        `The bundle in ${folder} now has fingerprint ${bundle.fingerprint}; the service started with ${fingerprint}.`,
      )
    }
    const { provider, threads } = execution
    search = provider === 'cpu' ? searchOnCpu(threads) : searchOnDevice(bundle.manifest.text_encoder.max_tokens)
    for (const [graph, spec] of Object.entries(graphSpecs(bundle.manifest)) as [GraphName, GraphSpec][]) {
      graphs[graph] = { session: await Session.open(await readBundleFile(bundle, spec.file), spec, execution), spec }
    }
    return null
  },
  measure: async () => {
    const limits = { ...search.least }
    let [image, padding] = [0, 0]
    for (const [graph, { session, spec }] of Object.entries(graphs) as [GraphName, Loaded][]) {
      const { limit, pace, overhead } = await largestBatch(graph, spec, search, (inputs) => session.run(inputs))
      limits[graph] = limit
      if (graph === 'image') image = pace
      if (graph === 'text') padding = overhead
    }
    return { limits, padding, need: { memory: process.memoryUsage.rss(), image } }
  },
  run: async ({ graph, inputs }) => {
    const loaded = graphs[graph]
    if (loaded === undefined) throw new Error(`No ${graph} graph has been loaded.`)
    const started = performance.now()
    const outputs = await loaded.session.run(inputs).catch((error: Error) => {
      throw new Error(`The ${graph} graph failed: ${error.message}`)
    })
    return { outputs, milliseconds: performance.now() - started }
  },
})
