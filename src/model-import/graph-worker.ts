/** Runs foreign graphs in a process of its own: a graph may crash the runtime. */
import { answerCalls } from '../worker/answer-calls.js'
import type { GraphSpec, Tensors } from '../model/onnx/graph-inputs.js'
import type { DeclaredValue } from '../model/onnx/graph-tensors.js'
import { BundleError } from '../model/bundle/bundle.js'
import { checkGraphFile } from '../model/onnx/graph-file.js'
import { computesInHalf } from '../model/onnx/half-precision.js'
import { Session } from '../model/onnx/session.js'
import { readSlim } from './graph-bytes.js'

export interface Commands {
  /** Opens a graph as it is. The caller has checked its operators and files. */
  open: {
    input: { path: string; threads: number }
    output: { inputs: DeclaredValue[]; outputs: DeclaredValue[] }
  }
  /** Opens a graph of a bundle with all checks of the service. */
  check: { input: { path: string; spec: GraphSpec; threads: number }; output: null }
  /** Runs the graph that was opened last. */
  run: {
    input: { inputs: Tensors; wanted: readonly string[] }
    output: { outputs: Tensors; milliseconds: number }
  }
  /** Frees the memory of the graph. */
  close: { input: null; output: null }
}

let session: Session | null = null

async function close(): Promise<null> {
  await session?.release()
  session = null
  return null
}

answerCalls<Commands>({
  open: async ({ path, threads }) => {
    await close()
    const opened = await Session.openForeign(path, threads)
    session = opened.session
    return { inputs: opened.inputs, outputs: opened.outputs }
  },
  check: async ({ path, spec, threads }) => {
    await close()
    const { bytes } = await readSlim(path, spec.file)
    checkGraphFile(bytes, spec.file)
    if (computesInHalf(bytes, spec.file))
      throw new BundleError(
        `${spec.file} computes in half precision (fp16), which is for a GPU; take another variant.`,
      )
    session = await Session.openFile(path, spec, threads)
    return null
  },
  run: async ({ inputs, wanted }) => {
    if (session === null) throw new Error('No graph is open.')
    const started = performance.now()
    const outputs = await session.run(inputs, wanted)
    return { outputs, milliseconds: performance.now() - started }
  },
  close,
})
