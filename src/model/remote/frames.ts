/**
 * Frames: what two services of different roles send one another. A JSON head, and behind it the
 * bytes of images, embeddings and tokens as they are, so that nothing grows by a third as base64 or
 * by ten as decimal numbers.
 *
 * A frame is the four bytes `TDF1`, the length of the head (uint32), the head (UTF-8), and the
 * parts one after the other; `parts` in the head has their lengths in bytes. Numbers are
 * little-endian, as on every machine that the models run on.
 */

/** The Content-Type of a frame. */
export const FRAME_TYPE = 'application/x-tandem-frame'

/** What is wrong with a frame, as the rest of a sentence that begins with what the frame is. */
export class FrameError extends Error {
  override readonly name = 'FrameError'
}

export interface Frame {
  readonly head: Readonly<Record<string, unknown>>
  readonly parts: readonly Uint8Array[]
}

const MAGIC = Buffer.from('TDF1')
const PREFIX = MAGIC.length + 4
/** A frame of more parts than images and lists of any request. */
const MAX_PARTS = 100_000

/** @param head - of JSON values; `parts` is added */
export function writeFrame(
  head: Readonly<Record<string, unknown>>,
  parts: readonly ArrayBufferView[] = [],
): Buffer {
  const views = parts.map(({ buffer, byteOffset, byteLength }) =>
    Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength),
  )
  const text = Buffer.from(JSON.stringify({ ...head, parts: views.map(({ length }) => length) }))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  return Buffer.concat([MAGIC, length, text, ...views])
}

/** @throws FrameError where the bytes are not exactly one frame */
export function readFrame(bytes: Buffer): Frame {
  if (bytes.length < PREFIX || !bytes.subarray(0, MAGIC.length).equals(MAGIC))
    throw new FrameError('is not a frame')
  const headEnd = PREFIX + bytes.readUInt32LE(MAGIC.length)
  if (headEnd > bytes.length) throw new FrameError('is cut off in its head')
  const head = headOf(bytes.subarray(PREFIX, headEnd))
  const lengths = counts(head, 'parts', MAX_PARTS, bytes.length)
  const end = lengths.reduce((sum, length) => sum + length, headEnd)
  if (end !== bytes.length)
    throw new FrameError(`has ${bytes.length} bytes where its head says ${end}`)
  let at = headEnd
  return { head, parts: lengths.map((length) => bytes.subarray(at, (at += length))) }
}

/**
 * The list of numbers from 0 to `largest` that the head has by this name. @throws FrameError for
 * anything else
 */
export function counts(head: Frame['head'], name: string, most: number, largest: number): number[] {
  const value = head[name]
  const isCount = (one: unknown): boolean =>
    Number.isSafeInteger(one) && (one as number) >= 0 && (one as number) <= largest
  if (Array.isArray(value) && value.length <= most && value.every(isCount)) return value as number[]
  throw new FrameError(`has no list of up to ${most} numbers from 0 to ${largest} named ${name}`)
}

/**
 * A part as `length` finite numbers of 4 bytes, copied. @throws FrameError for another length, or a
 * number that is none
 */
export function floats(part: Uint8Array | undefined, name: string, length: number): Float32Array {
  const found = new Float32Array(copied(part, name, length * 4))
  if (found.every(Number.isFinite)) return found
  throw new FrameError(`has a number in ${name} that is not finite`)
}

/** A part as `length` finite numbers of 8 bytes, copied. @throws FrameError as `floats` */
export function doubles(part: Uint8Array | undefined, name: string, length: number): Float64Array {
  const found = new Float64Array(copied(part, name, length * 8))
  if (found.every(Number.isFinite)) return found
  throw new FrameError(`has a number in ${name} that is not finite`)
}

/** A part as `length` numbers of one byte, copied. @throws FrameError for another length */
export function int8s(part: Uint8Array | undefined, name: string, length: number): Int8Array {
  return new Int8Array(copied(part, name, length))
}

/** A part as `length` row numbers below `rows`, copied. @throws FrameError as `floats` */
export function rowNumbers(
  part: Uint8Array | undefined,
  name: string,
  length: number,
  rows: number,
): Uint32Array {
  const found = new Uint32Array(copied(part, name, length * 4))
  if (found.every((row) => row < rows)) return found
  throw new FrameError(`names a row in ${name} beyond the ${rows} that there are`)
}

/**
 * Typed arrays ask for an aligned beginning, which a part in the middle of a frame does not have.
 */
function copied(part: Uint8Array | undefined, name: string, bytes: number): ArrayBuffer {
  if (part?.length !== bytes)
    throw new FrameError(`has ${part?.length ?? 'no'} bytes of ${name}; expected ${bytes}`)
  return new Uint8Array(part).buffer
}

function headOf(text: Buffer): Frame['head'] {
  try {
    const head: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text))
    if (typeof head === 'object' && head !== null && !Array.isArray(head))
      return head as Frame['head']
  } catch {
    // Said below, without what the bytes were.
  }
  throw new FrameError('has a head that is not a JSON object')
}
