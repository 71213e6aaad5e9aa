/**
 * Long strings of a large JSON body, such as images. A thread reads them, because a string of 20 MB
 * takes the event loop a tenth of a second. The parsed value has a stand-in for each: its start and
 * a mark that a client cannot guess. No text, id or payload may be as long as a stand-in is.
 */
import { createHmac } from 'node:crypto'
import { decodedImage, isUrl } from './base64-image.js'

/** What is known of a string of which the value has a stand-in. */
export interface LongString {
  /** Unicode characters that it has more than its stand-in. */
  moreChars: number
  /** Bytes that it has more than its stand-in as JSON. */
  moreJsonBytes: number
  /** The bytes, or what is wrong with them; null for the address of an image. */
  image: Uint8Array | string | null
}

/** UTF-16 units, more than any string that is accepted has: a payload has 65,536 bytes at most. */
export const MAX_SHORT = 65_536
/** More than a text may have, and than errors quote. */
const START_CHARS = 16_384
/** A private-use character, and a digest. */
const MARK = /\uf8ff[0-9a-f]{64}/g
const MARK_LENGTH = 65

export class LongStrings {
  static readonly none = new LongStrings(new Map(), new Map())
  readonly #byMark: ReadonlyMap<string, LongString>
  readonly #fieldBytes: ReadonlyMap<string, number>

  /**
   * @param byMark - the strings by the marks of their stand-ins
   * @param fieldBytes - bytes as JSON of each large field of the body
   */
  constructor(byMark: ReadonlyMap<string, LongString>, fieldBytes: ReadonlyMap<string, number>) {
    this.#byMark = byMark
    this.#fieldBytes = fieldBytes
  }

  /** The bytes of an image, or what is wrong with the text; null for the address of an image. */
  imageIn(text: string): Uint8Array | string | null {
    const long = this.#byMark.get(text.slice(-MARK_LENGTH))
    if (long !== undefined) return long.image
    return isUrl(text) ? null : decodedImage(text)
  }

  /** The Unicode characters of a text, with those of the strings that stand-ins in it stand for. */
  charsIn(text: string): number {
    return longIn(text, this.#byMark).reduce((sum, { moreChars }) => sum + moreChars, charsIn(text))
  }

  /** The bytes of a large field of the body as JSON; undefined for a small one. */
  bytesOf(field: string): number | undefined {
    return this.#fieldBytes.get(field)
  }
}

/** The bytes of a value as JSON, with those of the strings that stand-ins in it stand for. */
export function jsonBytesWith(byMark: ReadonlyMap<string, LongString>, value: unknown): number {
  const json = JSON.stringify(value)
  return longIn(json, byMark).reduce(
    (sum, { moreJsonBytes }) => sum + moreJsonBytes,
    Buffer.byteLength(json),
  )
}

function longIn(text: string, byMark: ReadonlyMap<string, LongString>): LongString[] {
  if (byMark.size === 0) return []
  return [...text.matchAll(MARK)].flatMap(([mark]) => byMark.get(mark) ?? [])
}

/**
 * The stand-in of a string, and what it stands for. Equal strings have equal stand-ins.
 *
 * @param secret - of one JSON text
 */
export function cutString(
  text: string,
  secret: Uint8Array,
): { standIn: string; mark: string; long: LongString } {
  const mark = `\uf8ff${createHmac('sha256', secret).update(text, 'utf16le').digest('hex')}`
  const standIn = text.slice(0, START_CHARS) + mark
  const long = {
    moreChars: charsIn(text) - charsIn(standIn),
    moreJsonBytes: jsonBytes(text) - jsonBytes(standIn),
    image: isUrl(text) ? null : decodedImage(text),
  }
  return { standIn, mark, long }
}

function jsonBytes(text: string): number {
  return Buffer.byteLength(JSON.stringify(text))
}

/** The Unicode characters of a text: a pair of surrogates is one. */
function charsIn(text: string): number {
  let pairs = 0
  for (let at = 0; at < text.length; at += 1) {
    if ((text.charCodeAt(at) & 0xfc00) !== 0xd800) continue
    if ((text.charCodeAt(at + 1) & 0xfc00) !== 0xdc00) continue
    pairs += 1
    at += 1
  }
  return text.length - pairs
}
