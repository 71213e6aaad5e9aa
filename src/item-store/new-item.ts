import type { Item, NewItem } from './item-store.js'

/** A stored item as it is put into another store, with the bytes of its image. */
export function newItem(item: Omit<Item, 'position'>, bytes: Uint8Array): NewItem {
  const { id, payload, embedding, imageTokens, addedAt } = item
  const { mime, width, height } = item.image
  return { id, payload, embedding, imageTokens, addedAt, image: { bytes, mime, width, height } }
}
