/**
 * Cuts the fail points into the running service from outside, so that its sources hold none of
 * them: at the calls to the file system, to the process of the graph, and (failing-lmdb.ts) to the
 * database. Given to node with --import.
 */
import files from 'node:fs/promises'
import { register, syncBuiltinESMExports } from 'node:module'
import { basename } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import type { Commands } from '../../src/vector-index/hnsw-worker.js'
import { WorkerProcess } from '../../src/worker/worker-process.js'
import { reach, type FailPoint } from './fail-points.js'

/** Long enough for a small graph to be somewhere between its first byte and its last. */
const WHILE_WRITING_MS = 1

type Around = { before?: FailPoint; during?: FailPoint; after?: FailPoint }

const aroundCommands: { [Name in keyof Commands]?: Around } = {
  change: { before: 'index: before a change', after: 'index: after a change' },
  save: { during: 'snapshot: the graph is being written', after: 'snapshot: the graph is written' },
  'begin-compaction': { after: 'compaction: begun' },
  'copy-for-compaction': { after: 'compaction: copying' },
  'end-compaction': { before: 'compaction: before its end', after: 'compaction: after its end' },
}

function cutProcess(): void {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called with the process as `this` below
  const { call } = WorkerProcess.prototype as WorkerProcess<Commands>
  const cut: typeof call = async function (this: WorkerProcess<Commands>, name, ask) {
    const { before, during, after } = aroundCommands[name] ?? {}
    // The graph dies with the service, in the middle of what it does: alone it would first finish
    // that.
    const { pid } = this.status
    const both = (point: FailPoint): void =>
      reach(point, () => pid !== null && process.kill(pid, 'SIGKILL'))
    if (before !== undefined) both(before)
    const answer = call.bind(this)(name, ask) as ReturnType<typeof cut>
    if (during !== undefined) {
      // A refusal that comes meanwhile is heard below.
      answer.catch(() => undefined)
      await new Promise((resolve) => setTimeout(resolve, Math.random() * WHILE_WRITING_MS))
      both(during)
    }
    const given = await answer
    if (after !== undefined) both(after)
    return given
  }
  Object.assign(WorkerProcess.prototype, { call: cut })
}

function cutFiles(): void {
  const { open, rename, rm } = files
  files.open = async (path, ...rest) => {
    const handle = await open(path, ...rest)
    if (basename(path as string) === 'hnsw.json.new') reach('snapshot: the sidecar is empty')
    return handle
  }
  files.rename = async (from, to) => {
    const isSidecar = basename(to as string) === 'hnsw.json'
    if (isSidecar) reach('snapshot: the sidecar is written aside')
    await rename(from, to)
    if (isSidecar) reach('snapshot: the sidecar is renamed')
  }
  files.rm = async (path, options) => {
    await rm(path, options)
    if (basename(path as string).endsWith('.bin')) reach('snapshot: the old graph is removed')
  }
  syncBuiltinESMExports()
}

// The processes of the service inherit what it is started with: only in the service is anything
// cut.
if (isMainThread && process.argv[1]?.endsWith('child.js') === true) {
  register('./lmdb-hook.js', import.meta.url)
  cutFiles()
  cutProcess()
}
