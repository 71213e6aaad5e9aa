/** The three graphs of a bundle: the names, types and shapes that the service relies on. */
import type { Manifest } from './manifest.js'

export type GraphName = 'image' | 'text' | 'fusion'

export type Tensor =
  | { type: 'float32'; data: Float32Array; dims: readonly number[] }
  | { type: 'int64'; data: BigInt64Array; dims: readonly number[] }
  | { type: 'int8'; data: Int8Array; dims: readonly number[] }
  | { type: 'uint8'; data: Uint8Array; dims: readonly number[] }

export type Tensors = Readonly<Record<string, Tensor>>

/** A type, and a shape in which null is any number. */
export interface TensorSpec {
  type: Tensor['type']
  shape: readonly (number | null)[]
}

export interface GraphSpec {
  file: string
  inputs: Readonly<Record<string, TensorSpec>>
  outputs: Readonly<Record<string, TensorSpec>>
}

/** What each graph of the bundle has to take and give. */
export function graphSpecs(manifest: Manifest): Readonly<Record<GraphName, GraphSpec>> {
  const { embedding, image_tokens: tokens, image_encoder: image, text_encoder: text, fusion_encoder: fusion } = manifest
  const embeddings: TensorSpec = { type: 'float32', shape: [null, embedding.dim] }
  const imageTokens: TensorSpec = { type: 'int8', shape: [null, tokens.count, tokens.width] }
  const textTokens: TensorSpec = { type: 'float32', shape: [null, null, text.token_width] }
  const mask: TensorSpec = { type: 'int64', shape: [null, null] }
  return {
    image: {
      file: image.file,
      inputs: { pixels: { type: 'uint8', shape: [null, image.size, image.size, 3] } },
      outputs: { embedding: embeddings, image_tokens: imageTokens },
    },
    text: {
      file: text.file,
      inputs: { token_ids: { type: 'int64', shape: [null, null] }, attention_mask: mask },
      outputs: { embedding: embeddings, text_tokens: textTokens },
    },
    fusion: {
      file: fusion.file,
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
