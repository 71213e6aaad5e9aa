import { setImmediate } from 'node:timers/promises'
import type { ItemStore } from '../../item-store/item-store.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'

const BATCH = 512

/**
 * Makes the index agree with the store after a crash between the two, a lost snapshot or a failed
 * write: replays changes after the index's position, and removes ids that the store lacks.
 *
 * @param onProgress - called after each batch with the number of items replayed so far
 */
export async function repairIndex(
  store: ItemStore,
  index: VectorIndex,
  onProgress: (replayed: number) => void = () => undefined,
): Promise<{ replayed: number; removed: number }> {
  let replayed = 0
  let batch: { id: string; embedding: Float32Array }[] = []
  let position = 0
  const flush = async (): Promise<void> => {
    await index.upsert(batch, position)
    replayed += batch.length
    batch = []
    onProgress(replayed)
  }
  // An index ahead of the store belongs to a former store: replay everything.
  const from = index.position > store.position ? 0 : index.position
  for (const item of store.since(from)) {
    batch.push({ id: item.id, embedding: item.embedding })
    position = item.position
    if (batch.length === BATCH) await flush()
  }
  if (batch.length > 0) await flush()
  return { replayed, removed: await removeStale(store, index) }
}

/** Removes ids that the store lacks, in batches. @returns how many */
async function removeStale(store: ItemStore, index: VectorIndex): Promise<number> {
  // After the replay the index has every id of the store, so equal sizes mean equal ids.
  if (index.size === store.size) return 0
  let removed = 0
  let visited = 0
  let stale: string[] = []
  for (const id of index.ids()) {
    if (!store.has(id)) stale.push(id)
    visited += 1
    if (visited % BATCH !== 0) continue
    // Removed in the same turn as the check: an id may be added again later.
    if (stale.length > 0) await index.remove(stale, store.position)
    else await setImmediate()
    removed += stale.length
    stale = []
  }
  await index.remove(stale, store.position)
  return removed + stale.length
}

/**
 * Repairs an index that missed a change or was lost.
 * @param isSound - false where the two may differ although their positions are equal
 */
export async function repairIfBehind(
  { store, index }: { store: ItemStore; index: VectorIndex },
  isSound = true,
): Promise<void> {
  const repair = (): Promise<unknown> => repairIndex(store, index)
  if (index.lost) await index.recover(repair)
  else if (!isSound || index.position !== store.position) await repair()
}
