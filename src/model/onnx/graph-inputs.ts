/** Names, types and shapes of the inputs and outputs of a bundle's graphs. */
import {
  ownTokens,
  textEncodersOf,
  tokenSizes,
  type Manifest,
  type Precision,
  type TextEncoder,
} from '../bundle/bundle.js'

/** `tokens` is the image encoder of a fusion encoder that reads tokens of its own. */
export type GraphKind = 'image' | 'text' | 'fusion' | 'tokens'
/** `text` is the first text encoder, `text-1` the second. */
export type GraphName = GraphKind | `text-${number}`

/** All text encoders are of one kind. */
export function kindOf(graph: GraphName): GraphKind {
  return graph === 'image' || graph === 'fusion' || graph === 'tokens' ? graph : 'text'
}

/** The graph of the text encoder at a position among those of the bundle. */
export function textGraph(position: number): GraphName {
  return position === 0 ? 'text' : `text-${position}`
}

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
): Readonly<Record<'image' | 'text', GraphSpec> & Partial<Record<GraphName, GraphSpec>>> {
  const { embedding, image_encoder: image, fusion_encoder: fusion } = manifest
  const [text, ...others] = textEncodersOf(manifest)
  const { count, width, tokenWidth } = tokenSizes(manifest)
  const own = ownTokens(manifest)?.image_encoder
  const givesTokens = fusion !== undefined && own === undefined
  const embeddings: TensorSpec = { type: 'float32', shape: [null, embedding.dim] }
  const imageTokens: TensorSpec = { type: 'int8', shape: [null, count, width] }
  const textTokens: TensorSpec = { type: 'float32', shape: [null, null, tokenWidth] }
  const mask: TensorSpec = { type: 'int64', shape: [null, null] }
  const textSpec = (text: TextEncoder, tokens: boolean): GraphSpec => ({
    file: text.file,
    precision: text.precision ?? 'fp32',
    inputs: { token_ids: { type: 'int64', shape: [null, null] }, attention_mask: mask },
    outputs: { embedding: embeddings, ...(tokens && { text_tokens: textTokens }) },
  })
  const encoders = {
    image: {
      file: image.file,
      precision: image.precision ?? 'fp32',
      inputs: { pixels: { type: 'uint8', shape: [null, image.size, image.size, 3] } },
      outputs: { embedding: embeddings, ...(givesTokens && { image_tokens: imageTokens }) },
    },
    text: textSpec(text, givesTokens),
    ...Object.fromEntries(others.map((other, at) => [textGraph(at + 1), textSpec(other, false)])),
  } satisfies Record<string, GraphSpec>
  if (fusion === undefined) return encoders
  return {
    ...encoders,
    ...(own && {
      tokens: {
        file: own.file,
        precision: own.precision ?? 'fp32',
        inputs: { pixels: { type: 'uint8', shape: [null, own.size, own.size, 3] } },
        outputs: { image_tokens: imageTokens },
      },
    }),
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
