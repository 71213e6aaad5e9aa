import type { Readable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import { GrowingBuffer } from '../growing-buffer.js'

/** A line of a body; `bytes` is null for one that is longer than allowed. */
export interface Line {
  index: number
  bytes: Buffer | null
}

/**
 * The lines of a stream as they arrive, one in memory at a time, without the white space in front.
 * Empty lines are skipped. Between the chunks of the stream the event loop has a turn.
 *
 * @param maxBytes - of a line; the rest of a longer one is read and dropped
 * @param onHeld - gets the bytes of the line that is not complete, after each chunk
 */
export async function* linesOf(
  stream: Readable,
  maxBytes: number,
  onHeld: (bytes: number) => void = () => undefined,
): AsyncGenerator<Line> {
  let index = 0
  let size = 0
  let line = new GrowingBuffer()
  const take = (): Line | undefined => {
    const bytes = size > maxBytes ? null : line.bytes()
    line = new GrowingBuffer()
    size = 0
    return bytes?.every(isSpace) === true ? undefined : { index: index++, bytes }
  }
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let from = 0
    while (from < chunk.length) {
      if (size === 0) from = afterSpace(chunk, from)
      const end = chunk.indexOf(0x0a, from)
      const piece = chunk.subarray(from, end === -1 ? undefined : end)
      size += piece.length
      if (size <= maxBytes) line.add(piece)
      else line = new GrowingBuffer()
      if (end === -1) break
      const complete = take()
      if (complete !== undefined) yield complete
      from = end + 1
    }
    onHeld(line.length)
    await setImmediate()
  }
  const last = take()
  if (last !== undefined) yield last
}

/** The position of the first byte from `at` on that is not white space. */
function afterSpace(chunk: Buffer, at: number): number {
  let after = at
  while (after < chunk.length && isSpace(chunk[after] as number)) after += 1
  return after
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)
}
