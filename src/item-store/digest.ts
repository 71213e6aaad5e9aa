/** Digests that are stored with images, records and encodings: damage never looks like content. */
import { createHash } from 'node:crypto'

export const DIGEST_BYTES = 16

/** Half of the SHA-256 of the id and the content: content stored under another id differs too. */
export function digestOf(id: string, content: string | Uint8Array): Buffer {
  const hash = createHash('sha256').update(`${Buffer.byteLength(id)}:${id}`)
  return hash.update(content).digest().subarray(0, DIGEST_BYTES)
}

/** What the comparison of content with its digest says; `unknown` without a digest. */
export type Verdict = 'sound' | 'damaged' | 'unknown'
