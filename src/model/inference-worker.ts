/**
 * The process that runs the graphs: a run blocks its thread, and what the runtime does not survive ends this process
 * alone. A session that is made again leaks, so another bundle, or a fresh start, is another process.
 */
import { answerCalls } from '../worker-process.js'
import { openBundle, readBundleFile } from './bundle.js'
import { BundleError } from './bundle-error.js'
import { graphSpecs, type GraphName, type GraphSpec, type Tensors } from './graphs.js'
import { Session } from './session.js'

export interface Commands {
  /** Loads the graphs of the bundle in `folder`, which must be the one with that fingerprint. */
  open: { ask: { folder: string; fingerprint: string; threads: number }; answer: null }
  /** Runs one batch; `milliseconds` are of the run alone. */
  run: { ask: { graph: GraphName; inputs: Tensors }; answer: { outputs: Tensors; milliseconds: number } }
}

let sessions: Partial<Record<GraphName, Session>> = {}

answerCalls<Commands>({
  open: async ({ folder, fingerprint, threads }) => {
    const bundle = await openBundle(folder)
    if (bundle.fingerprint !== fingerprint) {
      throw new BundleError(
        `The bundle in ${folder} now has fingerprint ${bundle.fingerprint}; the service started with ${fingerprint}.`,
      )
    }
    const specs = graphSpecs(bundle.manifest)
    const load = async (spec: GraphSpec): Promise<Session> =>
      Session.open(await readBundleFile(bundle, spec.file), spec, threads)
    sessions = { image: await load(specs.image), text: await load(specs.text) }
    if (specs.fusion !== undefined) sessions.fusion = await load(specs.fusion)
    return null
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
