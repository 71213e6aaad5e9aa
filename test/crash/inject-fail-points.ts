/**
 * Adds the fail points to the running service, so that its sources contain none: at calls to the
 * file system, to the process of the graph, and to the database (failing-lmdb.ts). Node loads this
 * file with --import.
 */
import files from 'node:fs/promises'
import { register, syncBuiltinESMExports } from 'node:module'
import { basename } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import type { Commands } from '../../src/vector-index/hnsw-worker.js'
import { WorkerProcess } from '../../src/worker/worker-process.js'
import { reach, type FailPoint } from './fail-points.js'

/** Within this time a small graph is only partly written. */
const WRITING_MS = 1

type Around = { before?: FailPoint; during?: FailPoint; after?: FailPoint }

const aroundCommands: { [Name in keyof Commands]?: Around } = {
  change: { before: 'index: before a change', after: 'index: after a change' },
  save: { during: 'snapshot: the graph is being written', after: 'snapshot: the graph is written' },
  'begin-compaction': { after: 'compaction: begun' },
  'copy-for-compaction': { after: 'compaction: copying' },
  'end-compaction': { before: 'compaction: before its end', after: 'compaction: after its end' },
}

function instrumentProcess(): void {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called with `this` below
  const { call } = WorkerProcess.prototype as WorkerProcess<Commands>
  const instrumented: typeof call = async function (
    this: WorkerProcess<Commands>,
    name,
    parameters,
  ) {
    const { before, during, after } = aroundCommands[name] ?? {}
    // The process of the graph is killed too; otherwise it would complete the command.
    const { pid } = this.status
    const reachWithIndex = (point: FailPoint): void =>
      reach(point, () => pid !== null && process.kill(pid, 'SIGKILL'))
    if (before !== undefined) reachWithIndex(before)
    const reply = call.bind(this)(name, parameters) as ReturnType<typeof instrumented>
    if (during !== undefined) {
      // An error before the `await` below must not count as unhandled.
      reply.catch(() => undefined)
      await new Promise((resolve) => setTimeout(resolve, Math.random() * WRITING_MS))
      reachWithIndex(during)
    }
    const result = await reply
    if (after !== undefined) reachWithIndex(after)
    return result
  }
  Object.assign(WorkerProcess.prototype, { call: instrumented })
}

function instrumentFiles(): void {
  const { open, rename, rm } = files
  files.open = async (path, ...rest) => {
    const handle = await open(path, ...rest)
    if (basename(path as string) === 'hnsw.json.new') reach('snapshot: the sidecar is empty')
    return handle
  }
  files.rename = async (source, target) => {
    const isSidecar = basename(target as string) === 'hnsw.json'
    if (isSidecar) reach('snapshot: the sidecar is written aside')
    await rename(source, target)
    if (isSidecar) reach('snapshot: the sidecar is renamed')
  }
  files.rm = async (path, options) => {
    await rm(path, options)
    if (basename(path as string).endsWith('.bin')) reach('snapshot: the old graph is removed')
  }
  syncBuiltinESMExports()
}

// Child processes inherit the options of Node; only the service itself gets fail points.
if (isMainThread && process.argv[1]?.endsWith('child.js') === true) {
  register('./lmdb-hook.js', import.meta.url)
  instrumentFiles()
  instrumentProcess()
}
