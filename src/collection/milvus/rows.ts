/** An item as a row of the collection, and back. */
import type { Item, ListedItem } from '../collection.js'
import type { NewItem, Payload } from '../../item-store/item-store.js'
import { embeddingField } from './schema.js'
import { termsOf } from './terms.js'

export type Row = Record<string, unknown>

/** JSON column next to the payload. Its keys are stored, so they keep the older word for image. */
interface About {
  /** Distinguishes no payload from an empty one. */
  has_payload: boolean
  picture: { mime: string; width: number; height: number; size: number }
  picture_key: string
  added_at: string
}

/** @throws TandemError `payload_invalid` */
export function rowOf(item: NewItem, fingerprint: string, imageKey: string): Row {
  const { id, payload, embedding, imageTokens, image, addedAt } = item
  const { bytes, mime, width, height } = image
  const about: About = {
    has_payload: payload !== null,
    picture: { mime, width, height, size: bytes.byteLength },
    picture_key: imageKey,
    added_at: addedAt ?? new Date().toISOString(),
  }
  return {
    id,
    [embeddingField(fingerprint)]: Array.from(embedding),
    // Milvus has no type for bytes except vectors, and an array of int8 takes four times the space.
    image_tokens: Buffer.from(
      imageTokens.buffer,
      imageTokens.byteOffset,
      imageTokens.byteLength,
    ).toString('base64'),
    payload: payload ?? {},
    terms: termsOf(payload),
    about,
  }
}

/** The fields that `listedItemOf` reads. */
export const LISTED = ['id', 'payload', 'about']
/** The fields that `imageKeyOf` needs; payloads may be large. */
export const IMAGED = ['id', 'about']

export function listedItemOf(row: Row): ListedItem {
  const { has_payload: hasPayload, picture: image, added_at: addedAt } = row['about'] as About
  const payload = hasPayload ? (row['payload'] as Payload) : null
  return { id: row['id'] as string, payload, image, addedAt }
}

/** @param fingerprint - of the bundle whose embedding the item gets */
export function itemOf(row: Row, fingerprint: string): Item {
  const bytes = Buffer.from(row['image_tokens'] as string, 'base64')
  return {
    ...listedItemOf(row),
    embedding: Float32Array.from(row[embeddingField(fingerprint)] as number[]),
    imageTokens: new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  }
}

export function imageKeyOf(row: Row): string {
  return (row['about'] as About).picture_key
}
