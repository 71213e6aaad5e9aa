/**
 * Copies a graph without its deleted labels, in small steps between which searches and changes go
 * on, and puts the copy in its place.
 */
import type { WorkerProcess } from '../worker/worker-process.js'
import type { Commands } from './hnsw-worker.js'
import { IdMap } from './id-map.js'

/** Embeddings copied at a time; a search waits for one such step at most. */
const STEP = 64

export interface Compaction {
  process: WorkerProcess<Commands>
  /** Those of the graph in use: changes add to them and empty some of them meanwhile. */
  labels: () => IdMap
  /** Runs a step while nothing changes the graph. */
  inTurn: (step: () => Promise<boolean>) => Promise<boolean>
  /** Called with the labels of the copy when it is the graph in use. */
  replace: (labels: IdMap) => void
}

/**
 * Copies labels in ascending order: those that are given out meanwhile come last, and none is
 * missed.
 */
export async function compact({ process, labels, inTurn, replace }: Compaction): Promise<void> {
  const original = labels()
  await process.call('begin-compaction', { capacity: original.size })
  /** New label → old label. */
  const copied: number[] = []
  const step = async (): Promise<boolean> => {
    // Another graph has been loaded: this copy is of one that is gone.
    if (labels() !== original) return true
    const from = original.used((copied.at(-1) ?? -1) + 1, STEP)
    if (from.length > 0) {
      await process.call('copy-for-compaction', { from, to: from.map((_, i) => copied.length + i) })
      copied.push(...from)
      return false
    }
    const ids = copied.map((label) => original.idOf(label))
    // What was replaced or removed after it had been copied.
    const deleted = ids.flatMap((id, label) => (id === null ? [label] : []))
    const remaining = await IdMap.of(ids)
    await process.call('end-compaction', { deleted })
    replace(remaining)
    return true
  }
  while (!(await inTurn(step)));
}
