/**
 * Texts of clients, decoded without loss. `Buffer.toString` puts U+FFFD in the place of bytes that
 * are not UTF-8, so two different texts could become one.
 */
import { isAscii, isUtf8 } from 'node:buffer'
import { TandemError } from '../errors.js'

const REPLACEMENT = '\ufffd'
const REPLACEMENT_BYTES = [...Buffer.from(REPLACEMENT)]

/** @param place - of the text, in the error. @throws TandemError text_unreadable */
export function utf8Text(bytes: Buffer, place: string): string {
  // Ten times as fast for large bodies, which are images in base64.
  if (isAscii(bytes)) return bytes.toString('latin1')
  if (isUtf8(bytes)) return bytes.toString('utf8')
  const at = positionOfFault(bytes)
  throw new TandemError('text_unreadable', {
    place,
    what: `has the byte 0x${hex(bytes[at] as number)} at position ${at}`,
  })
}

/** The position of the first byte that belongs to no character, in bytes that are not UTF-8. */
function positionOfFault(bytes: Buffer): number {
  const lossy = bytes.toString('utf8')
  let from = 0
  let position = 0
  for (;;) {
    const at = lossy.indexOf(REPLACEMENT, from)
    position += Buffer.byteLength(lossy.slice(from, at))
    // A client may write U+FFFD itself.
    if (!REPLACEMENT_BYTES.every((byte, index) => bytes[position + index] === byte)) return position
    position += REPLACEMENT_BYTES.length
    from = at + 1
  }
}

/** The text of a header: Node decodes its bytes as Latin-1. @throws TandemError text_unreadable */
export function headerText(value: string, name: string): string {
  return utf8Text(Buffer.from(value, 'latin1'), `The header ${name}`)
}

/**
 * Refuses U+FFFD in a text that a library decoded: it stands for bytes that were lost.
 *
 * @throws TandemError text_unreadable
 */
export function losslessText(text: string, place: string): string {
  const at = text.indexOf(REPLACEMENT)
  if (at === -1) return text
  throw new TandemError('text_unreadable', { place, what: `has other bytes at character ${at}` })
}

/** A byte as two hexadecimal digits. */
export function hex(byte: number): string {
  return byte.toString(16).toUpperCase().padStart(2, '0')
}
