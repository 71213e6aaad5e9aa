/**
 * Record of an item in the table `items`: its position, then its content as JSON. Encodings are in
 * tables of their own (encoding.ts).
 *
 *   0  float64  position; written last (`stampPosition`), because only the transaction knows it
 *   8  UTF-8    {payload, picture, addedAt, check}
 *
 * `picture.digest` is that of the image, `check` that of the text before it; earlier versions have
 * neither (digest.ts).
 */
import { DIGEST_BYTES, digestOf, type Verdict } from './digest.js'
import type { Item, NewItem } from './item-store.js'

const HEADER_BYTES = 8

/** The parts of an item that do not depend on a bundle. */
export type Content = Pick<Item, 'payload' | 'image' | 'addedAt'>

/** The stored form: data folders of earlier versions have the name `picture`. */
type StoredContent = Omit<Content, 'image'> & { picture: Content['image'] & { digest?: string } }

const EARLIER_END = /"addedAt":"[^"]*"}$/
const CHECK = new RegExp(`,"check":"([0-9a-f]{${DIGEST_BYTES * 2}})"}$`)

/** @returns the record with position 0; `addedAt` applies where the item has none */
export function encodeRecord(item: NewItem, addedAt: string): Buffer {
  const { bytes, mime, width, height } = item.image
  const image = { mime, width, height, size: bytes.byteLength }
  const content = { payload: item.payload, image, addedAt: item.addedAt ?? addedAt }
  return recordOf(item.id, content, digestOf(item.id, bytes))
}

/**
 * @param imageDigest - undefined where the image was stored without one
 * @returns the record with position 0
 */
export function recordOf(
  id: string,
  { payload, image, addedAt }: Content,
  imageDigest?: Buffer,
): Buffer {
  const digest = imageDigest?.toString('hex')
  const picture = digest === undefined ? image : { ...image, digest }
  const stored: StoredContent = { payload, picture, addedAt }
  const text = JSON.stringify(stored)
  const check = digestOf(id, text).toString('hex')
  const whole = `${text.slice(0, -1)},"check":"${check}"}`
  return Buffer.concat([Buffer.alloc(HEADER_BYTES), Buffer.from(whole)])
}

/** Compares a record with its digest. */
export function verifyRecord(id: string, record: Buffer): Verdict {
  const text = textOf(record)
  const [end, check] = CHECK.exec(text) ?? []
  if (end === undefined) return EARLIER_END.test(text) ? 'unknown' : 'damaged'
  return digestOf(id, `${text.slice(0, -end.length)}}`).toString('hex') === check
    ? 'sound'
    : 'damaged'
}

/** The digest of the image; null where an earlier version stored it. */
export function imageDigestIn(record: Buffer): Buffer | null {
  const { picture } = JSON.parse(textOf(record)) as StoredContent
  return picture.digest === undefined ? null : Buffer.from(picture.digest, 'hex')
}

/** The content of a record, which is not compared with its digest. */
export function decodeRecord(record: Buffer): Content {
  return parseContent(textOf(record))
}

/** @param text - the JSON of a record */
export function parseContent(text: string): Content {
  const { payload, picture, addedAt } = JSON.parse(text) as StoredContent
  const { mime, width, height, size } = picture
  return { payload, image: { mime, width, height, size }, addedAt }
}

/**
 * The JSON of a record from the byte `start` on. The binding's read buffer is longer than the
 * record and overrides `length`, which Node 24 no longer takes as the default end.
 */
export function textOf(record: Buffer, start = HEADER_BYTES): string {
  return record.toString('utf8', start, record.length)
}

/** Writes the position into a record or an encoding. */
export function stampPosition(record: Buffer, position: number): void {
  record.writeDoubleLE(position, 0)
}

/** Reads the position of a record or an encoding. */
export function positionOf(record: Buffer): number {
  return record.readDoubleLE(0)
}
