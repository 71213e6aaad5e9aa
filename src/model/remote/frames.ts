/**
 * Frames, the messages between services of different roles: a JSON head followed by the bytes of
 * images, embeddings and tokens. Base64 would add a third, decimal numbers a factor of ten.
 *
 * A frame is the four bytes `TDF1`, the length of the head (uint32), the head (UTF-8), and the
 * parts one after the other; `parts` in the head has their lengths in bytes. Numbers are
 * little-endian.
 */

/** The Content-Type of a frame. */
export const FRAME_TYPE = 'application/x-tandem-frame'

/** A malformed frame; the message continues a sentence about the frame. */
export class FrameError extends Error {
  override readonly name = 'FrameError'
}

export interface Frame {
  readonly head: Readonly<Record<string, unknown>>
  readonly parts: readonly Uint8Array[]
}

const MAGIC = Buffer.from('TDF1')
const PREFIX = MAGIC.length + 4
/** More parts than any request has images and lists. */
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

/** @throws FrameError for anything but exactly one frame */
export function readFrame(bytes: Buffer): Frame {
  return frameOf(bytes, parsedHead(headIn(bytes)))
}

/**
 * A frame of a client.
 *
 * @param parse - of the head; any error of it is a FrameError
 * @throws FrameError for anything but exactly one frame
 */
export async function readFrameWith(
  bytes: Buffer,
  parse: (head: Buffer) => Promise<unknown>,
): Promise<Frame> {
  return frameOf(bytes, await parse(headIn(bytes)).catch(() => undefined))
}

function headIn(bytes: Buffer): Buffer {
  if (bytes.length < PREFIX || !bytes.subarray(0, MAGIC.length).equals(MAGIC))
    throw new FrameError('is not a frame')
  const headEnd = PREFIX + bytes.readUInt32LE(MAGIC.length)
  if (headEnd > bytes.length) throw new FrameError('is cut off in its head')
  return bytes.subarray(PREFIX, headEnd)
}

function frameOf(bytes: Buffer, value: unknown): Frame {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FrameError('has a head that is not a JSON object')
  const head = value as Frame['head']
  const headEnd = PREFIX + headIn(bytes).length
  const lengths = counts(head, 'parts', MAX_PARTS, bytes.length)
  const end = lengths.reduce((sum, length) => sum + length, headEnd)
  if (end !== bytes.length)
    throw new FrameError(`has ${bytes.length} bytes where its head says ${end}`)
  let at = headEnd
  return { head, parts: lengths.map((length) => bytes.subarray(at, (at += length))) }
}

/**
 * A field of the head: at most `most` whole numbers from 0 to `largest`.
 * @throws FrameError for anything else
 */
export function counts(head: Frame['head'], name: string, most: number, largest: number): number[] {
  const value = head[name]
  const isCount = (one: unknown): boolean =>
    Number.isSafeInteger(one) && (one as number) >= 0 && (one as number) <= largest
  if (Array.isArray(value) && value.length <= most && value.every(isCount)) return value as number[]
  throw new FrameError(`has no list of up to ${most} numbers from 0 to ${largest} named ${name}`)
}

/**
 * A copy of a part as `length` float32 numbers.
 * @throws FrameError for another length or a number that is not finite
 */
export function floats(part: Uint8Array | undefined, name: string, length: number): Float32Array {
  const found = new Float32Array(copied(part, name, length * 4))
  if (found.every(Number.isFinite)) return found
  throw new FrameError(`has a number in ${name} that is not finite`)
}

/** A copy of a part as `length` float64 numbers. @throws FrameError as `floats` */
export function doubles(part: Uint8Array | undefined, name: string, length: number): Float64Array {
  const found = new Float64Array(copied(part, name, length * 8))
  if (found.every(Number.isFinite)) return found
  throw new FrameError(`has a number in ${name} that is not finite`)
}

/** A copy of a part as `length` int8 numbers. @throws FrameError for another length */
export function int8s(part: Uint8Array | undefined, name: string, length: number): Int8Array {
  return new Int8Array(copied(part, name, length))
}

/** A copy of a part as `length` row numbers below `rows`. @throws FrameError as `floats` */
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

/** Typed arrays need an aligned start, which a part of a frame does not have. */
function copied(part: Uint8Array | undefined, name: string, bytes: number): ArrayBuffer {
  if (part?.length !== bytes)
    throw new FrameError(`has ${part?.length ?? 'no'} bytes of ${name}; expected ${bytes}`)
  return new Uint8Array(part).buffer
}

function parsedHead(head: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(head))
  } catch {
    // The error of `frameOf` does not quote the bytes.
    return undefined
  }
}
