/** Batches of the text encoder and the image encoder: embeddings and tokens. */
import type { EncodedImage, EncodedText } from '../models.js'
import type { Lane } from '../queue/batcher.js'
import { ownTokens, tokenSizes, type Manifest } from '../bundle/bundle.js'
import { readPixels, type Pixels } from '../inference/pixel-files.js'
import { textGraph, type Tensor } from '../onnx/graph-inputs.js'
import { bytesOf, floatsOf, maskOf } from '../onnx/tensors.js'

/**
 * Token ids, special tokens included → the encoded text without padding.
 * @param maxWeight - in tokens, like `maxPadding`
 * @param encoder - position among the text encoders of the bundle
 */
export function textLane(
  manifest: Manifest,
  maxWeight = Infinity,
  maxPadding = Infinity,
  encoder = 0,
): Lane<readonly number[], EncodedText> {
  const { dim } = manifest.embedding
  const { tokenWidth: width } = tokenSizes(manifest)
  return {
    graph: textGraph(encoder),
    maxWeight,
    maxPadding,
    weigh: ({ length }) => length,
    rowLength: ({ length }) => length,
    assemble: (texts) => {
      const { mask, longest } = maskOf(texts.map(({ length }) => length))
      const ids = new BigInt64Array(texts.length * longest)
      texts.forEach((tokenIds, row) =>
        tokenIds.forEach((id, i) => (ids[row * longest + i] = BigInt(id))),
      )
      const dims = [texts.length, longest]
      return {
        token_ids: { type: 'int64', data: ids, dims },
        attention_mask: { type: 'int64', data: mask, dims },
      }
    },
    split: (outputs, texts) => {
      const embeddings = floatsOf(outputs, 'embedding')
      const tokens =
        'text_tokens' in outputs ? floatsOf(outputs, 'text_tokens') : new Float32Array()
      const rowLength = tokens.length / texts.length
      return texts.map(({ length }, row) => ({
        embedding: embeddings.slice(row * dim, (row + 1) * dim),
        textTokens: tokens.slice(row * rowLength, row * rowLength + length * width),
        tokenCount: length,
        encoder,
      }))
    },
  }
}

/** Pixels → embedding and image tokens. */
export function imageLane(
  manifest: Manifest,
  maxWeight: number,
): Lane<Pixels, Omit<EncodedImage, 'image'>> {
  const {
    embedding: { dim },
    image_encoder: { size },
  } = manifest
  const { count, width } = tokenSizes(manifest)
  const tokensLength = count * width
  return {
    graph: 'image',
    maxWeight,
    weigh: () => 1,
    assemble: (images) => ({ pixels: pixelTensor(images, size) }),
    split: (outputs, images) => {
      const embeddings = floatsOf(outputs, 'embedding')
      const imageTokens =
        'image_tokens' in outputs ? bytesOf(outputs, 'image_tokens') : new Int8Array()
      return images.map((_, row) => ({
        embedding: embeddings.slice(row * dim, (row + 1) * dim),
        imageTokens: imageTokens.slice(row * tokensLength, (row + 1) * tokensLength),
      }))
    },
  }
}

/**
 * Pixels → the image tokens of a fusion encoder that reads tokens of its own.
 * @throws Error for a manifest without one
 */
export function tokensLane(manifest: Manifest, maxWeight: number): Lane<Pixels, Int8Array> {
  const own = ownTokens(manifest)
  if (own === null) throw new Error('the fusion encoder reads the tokens of the dual encoder')
  const { count, width } = tokenSizes(manifest)
  const length = count * width
  return {
    graph: 'tokens',
    maxWeight,
    weigh: () => 1,
    assemble: (images) => ({ pixels: pixelTensor(images, own.image_encoder.size) }),
    split: (outputs, images) => {
      const tokens = bytesOf(outputs, 'image_tokens')
      return images.map((_, row) => tokens.slice(row * length, (row + 1) * length))
    },
  }
}

function pixelTensor(images: readonly Pixels[], size: number): Tensor {
  const dims = [images.length, size, size, 3]
  const files = images.flatMap((pixels) => ('file' in pixels ? [pixels.file] : []))
  if (files.length === images.length) return { type: 'uint8', data: new Uint8Array(), dims, files }
  const length = size * size * 3
  const data = new Uint8Array(images.length * length)
  images.forEach((pixels, row) => {
    if ('file' in pixels) readPixels(pixels.file, data.subarray(row * length, (row + 1) * length))
    else data.set(pixels, row * length)
  })
  return { type: 'uint8', data, dims }
}
