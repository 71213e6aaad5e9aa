/**
 * The thread that runs the graphs, one batch at a time: a run blocks its thread, so it must not be the one that serves.
 * Started by inference.ts with `WorkerStart`; answers every `BatchRequest` with a `BatchReply`.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { openBundle, readBundleFile } from './bundle.js'
import { BundleError } from './bundle-error.js'
import { graphSpecs, type GraphName, type Tensors } from './graphs.js'
import { Session } from './session.js'
import { buffersOf } from './tensors.js'

export interface WorkerStart {
  folder: string
  /** Of the bundle that the main thread opened: a restarted worker must not load another one. */
  fingerprint: string
  threads: number
}

export interface BatchRequest {
  graph: GraphName
  inputs: Tensors
}

export type BatchReply =
  | { kind: 'ready' }
  | { kind: 'refused'; message: string }
  | { kind: 'done'; outputs: Tensors; milliseconds: number }
  | { kind: 'failed'; message: string }

async function load({ folder, fingerprint, threads }: WorkerStart): Promise<Record<GraphName, Session>> {
  const bundle = await openBundle(folder)
  if (bundle.fingerprint !== fingerprint) {
    throw new BundleError(
      `The bundle in ${folder} now has fingerprint ${bundle.fingerprint}; the service started with ${fingerprint}.`,
    )
  }
  const specs = graphSpecs(bundle.manifest)
  const open = async (graph: GraphName): Promise<Session> =>
    Session.open(await readBundleFile(bundle, specs[graph].file), specs[graph], threads)
  return { image: await open('image'), text: await open('text'), fusion: await open('fusion') }
}

async function answer(sessions: Record<GraphName, Session>, { graph, inputs }: BatchRequest): Promise<BatchReply> {
  try {
    const started = performance.now()
    const outputs = await sessions[graph].run(inputs)
    return { kind: 'done', outputs, milliseconds: performance.now() - started }
  } catch (error) {
    return { kind: 'failed', message: `The ${graph} graph failed: ${(error as Error).message}` }
  }
}

const port = parentPort
if (port !== null) {
  const reply = (message: BatchReply): void =>
    port.postMessage(message, message.kind === 'done' ? buffersOf(message.outputs) : [])
  try {
    const sessions = await load(workerData as WorkerStart)
    port.on('message', (request: BatchRequest) => void answer(sessions, request).then(reply))
    reply({ kind: 'ready' })
  } catch (error) {
    reply({ kind: 'refused', message: (error as Error).message })
  }
}
