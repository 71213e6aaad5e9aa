/** Names, types and shapes of the inputs and outputs of a bundle's graphs. */
import { tokenSizes, type Manifest, type Precision } from '../bundle/bundle.js'

export type GraphName = 'image' | 'text' | 'fusion'

export type Tensor =
  | { type: 'float32'; data: Float32Array; dims: readonly number[] }
  | { type: 'int64'; data: BigInt64Array; dims: readonly number[] }
  /** Of graphs that are imported; no graph of a bundle has it. */
  | { type: 'int32'; data: Int32Array; dims: readonly number[] }
  | { type: 'int8'; data: Int8Array; dims: readonly number[] }
  /** Without data if each row is in a file. */
  | { type: 'uint8'; data: Uint8Array; dims: readonly number[]; files?: readonly string[] }

export type Tensors = Readonly<Record<string, Tensor>>

/** In a shape, null is any size. */
export interface TensorSpec {
  type: Tensor['type']
  shape: readonly (number | null)[]
}

export interface GraphSpec {
  file: string
  precision: Precision
  inputs: Readonly<Record<string, TensorSpec>>
  outputs: Readonly<Record<string, TensorSpec>>
}

/** The graphs of a bundle. Without a fusion encoder there is no fusion graph and no tokens. */
export function graphSpecs(
  manifest: Manifest,
): Readonly<Record<'image' | 'text', GraphSpec> & { fusion?: GraphSpec }> {
  const { embedding, image_encoder: image, text_encoder: text, fusion_encoder: fusion } = manifest
  const { count, width, tokenWidth } = tokenSizes(manifest)
  const embeddings: TensorSpec = { type: 'float32', shape: [null, embedding.dim] }
  const imageTokens: TensorSpec = { type: 'int8', shape: [null, count, width] }
  const textTokens: TensorSpec = { type: 'float32', shape: [null, null, tokenWidth] }
  const mask: TensorSpec = { type: 'int64', shape: [null, null] }
  const encoders = {
    image: {
      file: image.file,
      precision: image.precision ?? 'fp32',
      inputs: { pixels: { type: 'uint8', shape: [null, image.size, image.size, 3] } },
      outputs: { embedding: embeddings, ...(fusion && { image_tokens: imageTokens }) },
    },
    text: {
      file: text.file,
      precision: text.precision ?? 'fp32',
      inputs: { token_ids: { type: 'int64', shape: [null, null] }, attention_mask: mask },
      outputs: { embedding: embeddings, ...(fusion && { text_tokens: textTokens }) },
    },
  } satisfies Record<string, GraphSpec>
  if (fusion === undefined) return encoders
  return {
    ...encoders,
    fusion: {
      file: fusion.file,
      precision: fusion.precision ?? 'fp32',
      inputs: {
        text_tokens: textTokens,
        attention_mask: mask,
        image_tokens: imageTokens,
        pairs: { type: 'int64', shape: [null, 2] },
      },
      outputs: { logit: { type: 'float32', shape: [null] } },
    },
  }
}
