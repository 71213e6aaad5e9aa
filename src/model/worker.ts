/**
 * The thread that runs the graphs, one batch at a time: a run blocks its thread, so it must not be the one that serves.
 * Started by inference.ts with `WorkerStart`; answers every `BatchRequest` with a `BatchReply`.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { openBundle, readBundleFile } from './bundle.js'
import { BundleError } from './bundle-error.js'
import { graphSpecs, type GraphName } from './graphs.js'
import { Session } from './session.js'
import { buffersOf } from './tensors.js'
import { STOP, type BatchReply, type BatchRequest, type WorkerStart } from './worker-messages.js'

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
    let answered = Promise.resolve()
    port.on('message', (message: BatchRequest | typeof STOP) => {
      if (message === STOP) void answered.then(() => port.close())
      else answered = answer(sessions, message).then(reply)
    })
    reply({ kind: 'ready' })
  } catch (error) {
    reply({ kind: 'refused', message: (error as Error).message })
  }
}
