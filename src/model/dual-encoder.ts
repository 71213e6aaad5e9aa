/** Batches of the two encoders: texts to embeddings and text tokens, pixels to embeddings and image tokens. */
import type { EncodedImage, EncodedText } from '../model.js'
import type { Lane } from './batcher.js'
import { tokenSizes, type Manifest } from './manifest.js'
import { bytesOf, floatsOf, maskOf } from './tensors.js'

/**
 * Token ids, special tokens included → the encoded text without its padding.
 * @param maxWeight - in tokens, as `maxPadding`
 */
export function textLane(manifest: Manifest, maxWeight = Infinity, maxPadding = Infinity): Lane<readonly number[], EncodedText> {
  const { dim } = manifest.embedding
  const { tokenWidth: width } = tokenSizes(manifest)
  return {
    graph: 'text',
    maxWeight,
    maxPadding,
    weigh: ({ length }) => length,
    rowLength: ({ length }) => length,
    assemble: (texts) => {
      const { mask, longest } = maskOf(texts.map(({ length }) => length))
      const ids = new BigInt64Array(texts.length * longest)
      texts.forEach((tokenIds, row) => tokenIds.forEach((id, i) => (ids[row * longest + i] = BigInt(id))))
      const dims = [texts.length, longest]
      return { token_ids: { type: 'int64', data: ids, dims }, attention_mask: { type: 'int64', data: mask, dims } }
    },
    split: (outputs, texts) => {
      const embeddings = floatsOf(outputs, 'embedding')
      const tokens = width === 0 ? new Float32Array() : floatsOf(outputs, 'text_tokens')
      const rowLength = tokens.length / texts.length
      return texts.map(({ length }, row) => ({
        embedding: embeddings.slice(row * dim, (row + 1) * dim),
        textTokens: tokens.slice(row * rowLength, row * rowLength + length * width),
        tokenCount: length,
      }))
    },
  }
}

/** Pixels, size × size × 3 → embedding and image tokens. */
export function imageLane(manifest: Manifest, maxWeight: number): Lane<Uint8Array, Omit<EncodedImage, 'picture'>> {
  const { embedding: { dim }, image_encoder: { size } } = manifest
  const { count, width } = tokenSizes(manifest)
  const tokensLength = count * width
  return {
    graph: 'image',
    maxWeight,
    weigh: () => 1,
    assemble: (images) => {
      const data = new Uint8Array(images.length * size * size * 3)
      images.forEach((pixels, row) => data.set(pixels, row * size * size * 3))
      return { pixels: { type: 'uint8', data, dims: [images.length, size, size, 3] } }
    },
    split: (outputs, images) => {
      const embeddings = floatsOf(outputs, 'embedding')
      const imageTokens = tokensLength === 0 ? new Int8Array() : bytesOf(outputs, 'image_tokens')
      return images.map((_, row) => ({
        embedding: embeddings.slice(row * dim, (row + 1) * dim),
        imageTokens: imageTokens.slice(row * tokensLength, (row + 1) * tokensLength),
      }))
    },
  }
}
