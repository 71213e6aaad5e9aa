/** SHA-256 of files, read a piece at a time. */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'

const PIECE_BYTES = 1024 * 1024

/**
 * @param signal - ends the reading
 * @returns the size, and the digest in hexadecimal
 * @throws the error of the file system; the reason of the signal
 */
export async function sha256OfFile(
  path: string,
  signal?: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  const file = await open(path)
  try {
    // Two buffers for all pieces: streams would leave the size of the file as garbage. One is read
    // while the other is hashed.
    let piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
    let next = Buffer.allocUnsafeSlow(PIECE_BYTES)
    let reading = file.read(piece, 0, PIECE_BYTES)
    for (let bytes = 0; ;) {
      const { bytesRead } = await reading
      signal?.throwIfAborted()
      if (bytesRead === 0) return { bytes, sha256: hash.digest('hex') }
      reading = file.read(next, 0, PIECE_BYTES)
      hash.update(piece.subarray(0, bytesRead))
      bytes += bytesRead
      ;[piece, next] = [next, piece]
    }
  } finally {
    await file.close()
  }
}
