/** SHA-256 of files, read a piece at a time. */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'

const PIECE_BYTES = 256 * 1024

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
    // One buffer for all pieces: streams would leave the size of the file as garbage.
    const piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
    for (let bytes = 0; ;) {
      signal?.throwIfAborted()
      const { bytesRead } = await file.read(piece, 0, PIECE_BYTES)
      if (bytesRead === 0) return { bytes, sha256: hash.digest('hex') }
      hash.update(piece.subarray(0, bytesRead))
      bytes += bytesRead
    }
  } finally {
    await file.close()
  }
}
