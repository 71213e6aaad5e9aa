import type { NewItem } from '../../src/item-store/item-store.js'

/**
 * An item whose id and `version` determine every part, so that tests recognise a partial or mixed
 * item.
 */
export function testItem(id: string, version = 0): NewItem {
  const seed = [...id].reduce(
    (sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 9973,
    version + 1,
  )
  return {
    id,
    payload: { title: `photo ${id}`, version, nested: { tags: ['sea', 'été', '海'] } },
    embedding: Float32Array.from({ length: 8 }, (_, i) => Math.sin(seed + i)),
    imageTokens: Int8Array.from({ length: 33 }, (_, i) => ((seed * (i + 1)) % 256) - 128),
    image: {
      bytes: Uint8Array.from({ length: 5000 + (seed % 50) }, (_, i) => (seed + i) % 256),
      mime: 'image/jpeg',
      width: 512,
      height: 300 + version,
    },
  }
}
