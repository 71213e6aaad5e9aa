/**
 * The file with the embeddings of near copies: 32-bit floats, little-endian, one embedding after
 * the other.
 */
import { writeFlushed } from '../files/flush.js'
import { floatsAt } from './graph-file.js'

/** Embeddings in one write. */
const AT_ONCE = 512

/**
 * Writes the new `file` and flushes it.
 * @param embeddings - must not change before the end
 * @throws the error of the operating system. The incomplete file stays
 */
export async function writeEmbeddings(
  file: string,
  embeddings: Iterable<Float32Array>,
): Promise<void> {
  await writeFlushed(file, blocksOf(embeddings), { flags: 'wx' })
}

/** Reads the embedding at a place. */
export function copyReader(descriptor: number, dim: number): (at: number) => Float32Array {
  return (at) => floatsAt(descriptor, at * dim * Float32Array.BYTES_PER_ELEMENT, dim)
}

function* blocksOf(embeddings: Iterable<Float32Array>): Iterable<Uint8Array> {
  let block: Uint8Array[] = []
  for (const { buffer, byteOffset, byteLength } of embeddings) {
    block.push(new Uint8Array(buffer, byteOffset, byteLength))
    if (block.length < AT_ONCE) continue
    yield Buffer.concat(block)
    block = []
  }
  if (block.length > 0) yield Buffer.concat(block)
}
