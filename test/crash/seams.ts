/**
 * Cuts the fail points into the running service from outside, so that its sources hold none of them: at the calls to the
 * file system, to the thread of the graph, and (failing-lmdb.ts) to the database. Given to node with --import.
 */
import files from 'node:fs/promises'
import { register, syncBuiltinESMExports } from 'node:module'
import { basename } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { HnswThread } from '../../src/vector-index/hnsw-thread.js'
import type { CommandName } from '../../src/vector-index/hnsw-worker.js'
import { reach, type FailPoint } from './fail-points.js'

/** Long enough for a small graph to be somewhere between its first byte and its last. */
const WHILE_WRITING_MS = 1

const aroundCommands: { [Name in CommandName]?: { before?: FailPoint; during?: FailPoint; after?: FailPoint } } = {
  change: { before: 'index: before a change', after: 'index: after a change' },
  save: { during: 'snapshot: the graph is being written', after: 'snapshot: the graph is written' },
  'begin-compaction': { after: 'compaction: begun' },
  'copy-for-compaction': { after: 'compaction: copying' },
  'end-compaction': { before: 'compaction: before its end', after: 'compaction: after its end' },
}

function cutThread(): void {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called with the thread as `this` below
  const { call } = HnswThread.prototype
  HnswThread.prototype.call = async function (this: HnswThread, name, ask, transfer) {
    const { before, during, after } = aroundCommands[name] ?? {}
    if (before !== undefined) reach(before)
    const answer = call.bind(this)(name, ask, transfer)
    if (during !== undefined) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.random() * WHILE_WRITING_MS)
      reach(during)
    }
    const given = await answer
    if (after !== undefined) reach(after)
    return given
  }
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

if (isMainThread) {
  register('./lmdb-hook.js', import.meta.url)
  cutFiles()
  cutThread()
}
