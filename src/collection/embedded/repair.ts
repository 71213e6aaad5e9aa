import { setImmediate } from 'node:timers/promises'
import type { ItemStore } from '../../item-store/item-store.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'

const BATCH = 512

/**
 * Makes the index agree with the store, which is the truth: replays what was stored after the
 * index's position, and removes ids that the store no longer has. A crash between storing and
 * indexing, a lost snapshot and a failed write all end here.
 *
 * @param onProgress - called after each batch with how many items have been replayed so far
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
  // An index ahead of the store belongs to a store that was there before: nothing of it can be
  // trusted.
  const from = index.position > store.position ? 0 : index.position
  for (const item of store.since(from)) {
    batch.push({ id: item.id, embedding: item.embedding })
    position = item.position
    if (batch.length === BATCH) await flush()
  }
  if (batch.length > 0) await flush()
  const removed = await removeGone(store, index)
  return { replayed, removed }
}

/**
 * Looks at all ids, some at a time, and removes those that the store no longer has; answers how
 * many.
 */
async function removeGone(store: ItemStore, index: VectorIndex): Promise<number> {
  // After the replay the index has every id of the store, so one that is as large has no other.
  if (index.size === store.size) return 0
  let removed = 0
  let looked = 0
  let gone: string[] = []
  for (const id of index.ids()) {
    if (!store.has(id)) gone.push(id)
    looked += 1
    if (looked % BATCH !== 0) continue
    // At once, before any of them may be there again.
    if (gone.length > 0) await index.remove(gone, store.position)
    else await setImmediate()
    removed += gone.length
    gone = []
  }
  await index.remove(gone, store.position)
  return removed + gone.length
}

/**
 * Brings an index level with its store where it missed a change, or was lost.
 * @param isSound - false where it may differ though it stands at the store's position
 */
export async function levelIndex(
  { store, index }: { store: ItemStore; index: VectorIndex },
  isSound = true,
): Promise<void> {
  const repair = (): Promise<unknown> => repairIndex(store, index)
  if (index.lost) await index.recover(repair)
  else if (!isSound || index.position !== store.position) await repair()
}
