import type { Readable } from 'node:stream'

/** A line of a body; `text` is null for one that is longer than allowed. */
export interface Line {
  index: number
  text: string | null
}

/**
 * The lines of a stream as they arrive, one in memory at a time. Empty lines are skipped.
 *
 * @param maxBytes - of a line; the rest of a longer one is read and dropped
 */
export async function* linesOf(stream: Readable, maxBytes: number): AsyncGenerator<Line> {
  let index = 0
  let size = 0
  let pieces: Buffer[] = []
  const take = (): Line | undefined => {
    const text = size > maxBytes ? null : Buffer.concat(pieces).toString('utf8').trim()
    pieces = []
    size = 0
    return text === '' ? undefined : { index: index++, text }
  }
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let from = 0
    while (from <= chunk.length) {
      const end = chunk.indexOf(0x0a, from)
      const piece = chunk.subarray(from, end === -1 ? undefined : end)
      size += piece.length
      if (size <= maxBytes) pieces.push(piece)
      else pieces = []
      if (end === -1) break
      const line = take()
      if (line !== undefined) yield line
      from = end + 1
    }
  }
  const last = take()
  if (last !== undefined) yield last
}
