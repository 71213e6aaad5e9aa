import { setImmediate } from 'node:timers/promises'
import { TandemError } from '../../errors.js'
import { newItem, type Item, type ItemStore, type NewItem } from '../../item-store/item-store.js'
import type { Models } from '../../model/models.js'
import { isUnit } from '../../vector-index/normalise.js'
import type { Restored, RestoreOptions } from '../collection.js'
import type { Generation } from './generation.js'
import type { WriteGroups } from './write-groups.js'

/** Items in a group: writes of clients wait for one at most. */
const GROUP = 64

/**
 * Makes the items of the serving generation those of `source`, a group at a time between the writes
 * of clients. Searches continue, and store and index agree after each group.
 *
 * Equal items are skipped, so an interrupted restore continues when it is run again. Items that
 * clients change meanwhile are newer than the backup and stay.
 *
 * @param options.touched - ids that clients changed since the restore was accepted; it grows
 * @param source - if another bundle encoded its items, their stored images are encoded again
 * @throws TandemError as `Maintenance.restoreFrom`
 */
export async function restore(
  { models, store, index }: Generation,
  writes: WriteGroups,
  source: ItemStore,
  { signal, onProgress, touched }: RestoreOptions & { touched: ReadonlySet<string> },
): Promise<Restored> {
  const sameBundle = source.fingerprint === store.fingerprint
  const restored: Restored = { stored: 0, removed: 0, unchanged: 0 }
  let processed = 0
  for (const page of pagesOf(source)) {
    await yieldToEventLoop(signal)
    const changed = page.filter((item) => !isSame(item, source, store, sameBundle))
    const items = sameBundle
      ? changed.map((item) => newItem(checked(item), imageOf(item, source)))
      : await encodedAgain(changed, source, models, signal)
    await writes.exclusive(async () => {
      checkServing(store)
      const untouched = items.filter(({ id }) => !touched.has(id))
      if (untouched.length === 0) return
      const { position } = await store.put(untouched)
      await index.upsert(untouched, position)
      restored.stored += untouched.length
    })
    restored.unchanged += page.length - changed.length
    onProgress((processed += page.length))
  }
  for (const page of pagesOf(store)) {
    await yieldToEventLoop(signal)
    const extra = page.map(({ id }) => id).filter((id) => !source.has(id))
    await writes.exclusive(async () => {
      checkServing(store)
      const { position, removed } = await store.remove(extra.filter((id) => !touched.has(id)))
      if (removed.length > 0) await index.remove(removed, position)
      restored.removed += removed.length
    })
  }
  return restored
}

/** After a promotion the encodings of this generation are no longer those to store. */
function checkServing({ bundles, fingerprint }: ItemStore): void {
  if (bundles.serving.fingerprint === fingerprint) return
  throw new TandemError(
    'backup_busy',
    'Another bundle was promoted during the restore; run the restore again.',
  )
}

/** A page of equal items waits for no disk, so it has to let other requests run. */
async function yieldToEventLoop(signal: AbortSignal): Promise<void> {
  await setImmediate()
  signal.throwIfAborted()
}

function* pagesOf(store: ItemStore): Generator<Item[]> {
  for (let page = store.list({ limit: GROUP }); page.length > 0;) {
    yield page
    page = store.list({ limit: GROUP, after: (page.at(-1) as Item).id })
  }
}

function isSame(item: Item, source: ItemStore, store: ItemStore, sameBundle: boolean): boolean {
  const stored = store.get(item.id)
  const image = store.image(item.id)
  return (
    stored !== undefined &&
    image !== undefined &&
    stored.addedAt === item.addedAt &&
    JSON.stringify([stored.payload, stored.image]) === JSON.stringify([item.payload, item.image]) &&
    Buffer.compare(image, imageOf(item, source)) === 0 &&
    (!sameBundle ||
      (areEqual(stored.embedding, item.embedding) &&
        areEqual(stored.imageTokens, item.imageTokens)))
  )
}

function areEqual(a: Float32Array | Int8Array, b: Float32Array | Int8Array): boolean {
  return a.length === b.length && a.every((value, at) => value === b[at])
}

function imageOf({ id }: Item, source: ItemStore): Uint8Array {
  const bytes = source.image(id)
  if (bytes === undefined) throw new Error(`The stored image of "${id}" is missing.`)
  return bytes
}

function checked(item: Item): Item {
  if (isUnit(item.embedding)) return item
  const length = Math.hypot(...item.embedding).toPrecision(4)
  throw new TandemError(
    'backup_unusable',
    `The embedding of "${item.id}" has the length ${length}; expected 1. The backup was changed after it was made.`,
  )
}

async function encodedAgain(
  items: readonly Item[],
  source: ItemStore,
  models: Models,
  signal: AbortSignal,
): Promise<NewItem[]> {
  if (items.length === 0) return []
  const newItems = items.map((item) => newItem(item, imageOf(item, source)))
  const images = newItems.map(({ image }) => image.bytes)
  const { encoded } = await models.encodeImages(images, { signal, priority: 'bulk' })
  return newItems.map((item, at) => {
    const { embedding, imageTokens } = encoded[at] as (typeof encoded)[number]
    return { ...item, embedding, imageTokens }
  })
}
