/**
 * The process that runs the graphs: a run blocks its thread, and what the runtime does not survive ends this process
 * alone. A session that is made again leaks, so another bundle, another provider or a fresh start is another process.
 */
import { answerCalls } from '../worker-process.js'
import { largestBatch, LEAST_LIMITS, type BatchLimits } from './batch-limits.js'
import { openBundle, readBundleFile } from './bundle.js'
import { BundleError } from './bundle-error.js'
import type { Execution } from './execution.js'
import { graphSpecs, type GraphName, type GraphSpec, type Tensors } from './graphs.js'
import { Session } from './session.js'

export interface Commands {
  /** Loads the graphs of the bundle in `folder`, which must be the one with that fingerprint. */
  open: { ask: { folder: string; fingerprint: string; execution: Execution }; answer: BatchLimits }
  /** Runs one batch; `milliseconds` are of the run alone. */
  run: { ask: { graph: GraphName; inputs: Tensors }; answer: { outputs: Tensors; milliseconds: number } }
}

const sessions: Partial<Record<GraphName, Session>> = {}

answerCalls<Commands>({
  open: async ({ folder, fingerprint, execution }) => {
    const bundle = await openBundle(folder)
    if (bundle.fingerprint !== fingerprint) {
      throw new BundleError(
        `The bundle in ${folder} now has fingerprint ${bundle.fingerprint}; the service started with ${fingerprint}.`,
      )
    }
    const { text_encoder: { max_tokens: tokens } } = bundle.manifest
    const limits = { ...LEAST_LIMITS }
    for (const [graph, spec] of Object.entries(graphSpecs(bundle.manifest)) as [GraphName, GraphSpec][]) {
      const session = await Session.open(await readBundleFile(bundle, spec.file), spec, execution)
      sessions[graph] = session
      if (execution.provider !== 'cpu') limits[graph] = await largestBatch(graph, spec, tokens, (inputs) => session.run(inputs))
    }
    return limits
  },
  run: async ({ graph, inputs }) => {
    const session = sessions[graph]
    if (session === undefined) throw new Error(`No ${graph} graph has been loaded.`)
    const started = performance.now()
    const outputs = await session.run(inputs).catch((error: Error) => {
      throw new Error(`The ${graph} graph failed: ${error.message}`)
    })
    return { outputs, milliseconds: performance.now() - started }
  },
})
