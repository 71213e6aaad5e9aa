/**
 * Replaces a graph by a copy without its deleted labels. Searches and changes continue between the
 * small steps of the copying.
 */
import type { WorkerProcess } from '../worker/worker-process.js'
import type { Commands } from './hnsw-worker.js'
import { IdMap } from './id-map.js'

/** Embeddings copied in one step. A search waits for one step at most. */
const STEP = 64

export interface Compaction {
  process: WorkerProcess<Commands>
  /** The ids of the graph in use, which may change during the compaction. */
  ids: () => IdMap
  /** Runs a step when no other change runs. */
  inTurn: (step: () => Promise<boolean>) => Promise<boolean>
  /** Called with the ids of the copy once it is the graph in use. */
  replace: (ids: IdMap) => void
}

/** Copies labels in ascending order, so that labels assigned meanwhile are copied last. */
export async function compact({ process, ids, inTurn, replace }: Compaction): Promise<void> {
  const original = ids()
  await process.call('begin-compaction', { capacity: original.size })
  /** New label → old label. */
  const copied: number[] = []
  const step = async (): Promise<boolean> => {
    // Another graph was loaded: the copied one is gone.
    if (ids() !== original) return true
    const from = original.used((copied.at(-1) ?? -1) + 1, STEP)
    if (from.length > 0) {
      await process.call('copy-for-compaction', { from, to: from.map((_, i) => copied.length + i) })
      copied.push(...from)
      return false
    }
    const copiedIds = copied.map((label) => original.idOf(label))
    // Replaced or removed after they were copied.
    const deleted = copiedIds.flatMap((id, label) => (id === null ? [label] : []))
    const remaining = await IdMap.of(copiedIds)
    await process.call('end-compaction', { deleted })
    replace(remaining)
    return true
  }
  while (!(await inTurn(step)));
}
