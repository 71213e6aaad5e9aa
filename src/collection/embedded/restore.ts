/**
 * Brings the items of another store, a backup, into the one that serves: a group at a time in the
 * writer's turns, so that searches go on and both rooms agree after each.
 *
 * Items that are the same already are left alone: run again after an interruption, a restore goes
 * on where it ended. What clients add, replace or remove while it runs is newer than the backup and
 * stays as they left it.
 */
import { setImmediate } from 'node:timers/promises'
import { TandemError } from '../../errors.js'
import { newItem, type Item, type ItemStore, type NewItem } from '../../item-store/item-store.js'
import type { Models } from '../../model/models.js'
import type { VectorIndex } from '../../vector-index/vector-index.js'
import { isUnit } from '../../vector-index/normalise.js'
import type { Writer } from './write-groups.js'

/** Items of a turn: writes of clients wait that long. */
const GROUP = 64

export interface Restored {
  /** Items added or replaced. */
  stored: number
  /** Items that the backup does not have. */
  removed: number
  /** Items that were the same already. */
  unchanged: number
}

export interface RestoreOptions {
  /** Ends the restore between two groups. */
  signal: AbortSignal
  /** Called with how many items of the backup have been dealt with so far. */
  onProgress: (items: number) => void
}

/**
 * @param from - its items, whole: encodings of another bundle are made anew from the stored images
 * @throws TandemError storage_full, storage_read_only, backup_unusable for an embedding that no
 *   bundle made, or backup_busy where another bundle serves meanwhile; the groups before stay, and
 *   the same restore can be run again
 */
export async function restore(
  rooms: { models: Models; store: ItemStore; index: VectorIndex },
  writer: Writer,
  from: ItemStore,
  { signal, onProgress }: RestoreOptions,
): Promise<Restored> {
  const { models, store, index } = rooms
  const touched = new Set<string>()
  const ended = writer.follow((ids) => ids.forEach((id) => touched.add(id)))
  const sameBundle = from.fingerprint === store.fingerprint
  const restored: Restored = { stored: 0, removed: 0, unchanged: 0 }
  let seen = 0
  try {
    for (const page of pagesOf(from)) {
      await breath(signal)
      const wanted = page.filter((item) => !isSame(item, from, store, sameBundle))
      const items = sameBundle
        ? wanted.map((item) => newItem(checked(item), imageOf(item, from)))
        : await encodedAgain(wanted, from, models, signal)
      await writer.turn(async () => {
        checkServing(store)
        const untouched = items.filter(({ id }) => !touched.has(id))
        if (untouched.length === 0) return
        const { position } = await store.put(untouched)
        await index.upsert(untouched, position)
        restored.stored += untouched.length
      })
      restored.unchanged += page.length - wanted.length
      onProgress((seen += page.length))
    }
    for (const page of pagesOf(store)) {
      await breath(signal)
      const extra = page.map(({ id }) => id).filter((id) => !from.has(id))
      await writer.turn(async () => {
        checkServing(store)
        const { position, removed } = await store.remove(extra.filter((id) => !touched.has(id)))
        if (removed.length > 0) await index.remove(removed, position)
        restored.removed += removed.length
      })
    }
    return restored
  } finally {
    ended()
  }
}

/**
 * After a switch the rooms are those of the bundle that served before, and their encodings no
 * longer those to store.
 */
function checkServing({ bundles, fingerprint }: ItemStore): void {
  if (bundles.serving.fingerprint === fingerprint) return
  throw new TandemError(
    'backup_busy',
    'The serving bundle was changed meanwhile; the restore has to be run again.',
  )
}

/** Lets others run: a page of which nothing changes waits for no disk. */
async function breath(signal: AbortSignal): Promise<void> {
  await setImmediate()
  signal.throwIfAborted()
}

function* pagesOf(store: ItemStore): Generator<Item[]> {
  for (let page = store.list({ limit: GROUP }); page.length > 0;) {
    yield page
    page = store.list({ limit: GROUP, after: (page.at(-1) as Item).id })
  }
}

function isSame(item: Item, from: ItemStore, store: ItemStore, sameBundle: boolean): boolean {
  const stored = store.get(item.id)
  const image = store.image(item.id)
  return (
    stored !== undefined &&
    image !== undefined &&
    stored.addedAt === item.addedAt &&
    JSON.stringify([stored.payload, stored.image]) === JSON.stringify([item.payload, item.image]) &&
    Buffer.compare(image, imageOf(item, from)) === 0 &&
    (!sameBundle ||
      (areEqual(stored.embedding, item.embedding) &&
        areEqual(stored.imageTokens, item.imageTokens)))
  )
}

function areEqual(a: Float32Array | Int8Array, b: Float32Array | Int8Array): boolean {
  return a.length === b.length && a.every((value, at) => value === b[at])
}

function imageOf({ id }: Item, from: ItemStore): Uint8Array {
  const bytes = from.image(id)
  if (bytes === undefined) throw new Error(`The stored image of "${id}" is missing.`)
  return bytes
}

function checked(item: Item): Item {
  if (!isUnit(item.embedding)) {
    const length = Math.hypot(...item.embedding).toPrecision(4)
    const found = `The embedding of "${item.id}" has the length ${length}; expected 1.`
    throw new TandemError('backup_unusable', `${found} The backup was changed after it was made.`)
  }
  return item
}

async function encodedAgain(
  items: readonly Item[],
  from: ItemStore,
  models: Models,
  signal: AbortSignal,
): Promise<NewItem[]> {
  if (items.length === 0) return []
  const kept = items.map((item) => newItem(item, imageOf(item, from)))
  const images = kept.map(({ image }) => image.bytes)
  const { encoded } = await models.encodeImages(images, { signal, priority: 'bulk' })
  return kept.map((item, at) => {
    const { embedding, imageTokens } = encoded[at] as (typeof encoded)[number]
    return { ...item, embedding, imageTokens }
  })
}
