/** SHA-256 of files, read a piece at a time. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'

const PIECE_BYTES = 1024 * 1024

/**
 * @param signal - ends the reading
 * @returns the size, and the digest in hexadecimal
 * @throws the error of the file system
 */
export async function sha256OfFile(
  path: string,
  signal?: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  const stream = createReadStream(path, { highWaterMark: PIECE_BYTES })
  await pipeline(stream, hash, { signal })
  return { bytes: stream.bytesRead, sha256: hash.digest('hex') }
}
