/** The contract of bundles: the folders that training writes and the service loads. */

/** A bundle that cannot be used; the message says what is wrong, and where. */
export class BundleError extends Error {
  override readonly name = 'BundleError'
}

/** A bundle whose files have been verified. */
export interface Bundle {
  folder: string
  manifest: Manifest
  fingerprint: string
}

/** Arithmetic inside a graph; inputs and outputs do not depend on it. fp16 is for a GPU. */
export type Precision = 'fp32' | 'fp16' | 'int8'

/** How an image becomes size × size pixels; `image_encoder` of a manifest. */
export interface PixelRules {
  /** Side of the square. */
  size: number
  /**
   * `fill` squashes the whole image into the square. `crop` resizes the short side to `size` and
   * takes the centre. `pad` resizes the long side to `size` and centres the image on `background`.
   */
  fit?: 'fill' | 'crop' | 'pad'
  /** Kernel of Pillow; bicubic by default. */
  resample?: Filter
  /** What lies under transparent pixels and around a padded image, RGB; white by default. */
  background?: readonly number[]
  /**
   * Where the crop begins if an odd number of pixels is cut off: `down` rounds the half down
   * (transformers), `even` to the even number (torchvision). `down` by default.
   */
  centre?: 'down' | 'even'
  /**
   * Whether the pixels are made from the image that is stored, at most 512 pixels on its long side,
   * or from the one that was sent. `stored` by default.
   */
  source?: 'stored' | 'sent'
}

export type Filter = 'bicubic' | 'bilinear' | 'lanczos'

/**
 * A fusion encoder that reads tokens of its own beside a dual encoder that gives none: those of an
 * image encoder, and as text tokens the ids of a tokenizer.
 */
export interface OwnTokens {
  image_encoder: PixelRules & { file: string; precision?: Precision }
  tokenizer: string
  max_tokens: number
}

export interface Manifest {
  schema_version: 1
  name: string
  version: string
  description: string
  license: string
  /** False if the license forbids it; absent where nobody looked. */
  commercial_use?: boolean
  /** Where an imported bundle comes from. */
  source?: string
  languages: string[]
  embedding: { dim: number }
  /**
   * Present with a fusion encoder. `stored`, true by default, is false where they are computed when
   * an image is reranked.
   */
  image_tokens?: { count: number; width: number; dtype: 'int8'; stored?: boolean }
  image_encoder: PixelRules & { file: string; precision?: Precision }
  /** `token_width` is present with a fusion encoder. */
  text_encoder: TextFiles & { token_width?: number }
  /** Text encoders for other languages over the same images; they give no tokens. */
  other_text_encoders?: (TextFiles & { languages: string[]; match: MatchRule })[]
  /** Absent in a bundle that is a dual encoder alone. */
  fusion_encoder?: { file: string; precision?: Precision } & Partial<OwnTokens>
  match: MatchRule
  /** Candidates more than `margin` below the k-th similarity do not reach the first k. */
  rerank: { default: boolean; candidates: number; margin?: number }
  goldens: string
  metrics: Record<string, unknown>
  files: FileEntry[]
}

/** A graph that encodes texts, and the tokenizer for it. */
interface TextFiles {
  file: string
  tokenizer: string
  max_tokens: number
  precision?: Precision
}

/**
 * match = sigmoid(argument), argument = logit × ITM logit + similarity × cosine + bias. With
 * `knots`, increasing pairs of argument and match, the match is interpolated between them.
 */
export interface MatchRule {
  logit: number
  similarity: number
  bias: number
  knots?: [number, number][]
  /** False if the rule was not fitted on pairs; true by default. */
  calibrated?: boolean
}

/** A text encoder of a bundle, the languages that it understands, and the match of its texts. */
export interface TextEncoder extends TextFiles {
  languages: readonly string[]
  match: MatchRule
}

/** All text encoders. Only the texts of the first are compared by the fusion encoder. */
export function textEncodersOf(manifest: Manifest): readonly [TextEncoder, ...TextEncoder[]] {
  const { text_encoder: first, other_text_encoders: others = [], languages, match } = manifest
  return [{ ...first, languages, match }, ...others]
}

/** The languages of all text encoders. */
export function languagesOf(manifest: Manifest): readonly string[] {
  return [...new Set(textEncodersOf(manifest).flatMap(({ languages }) => languages))]
}

/** Sizes of the inputs of the fusion encoder; 0 without one. */
export function tokenSizes({
  fusion_encoder: fusion,
  image_tokens: image,
  text_encoder: text,
}: Manifest): {
  count: number
  width: number
  tokenWidth: number
} {
  if (fusion === undefined) return { count: 0, width: 0, tokenWidth: 0 }
  return { count: image?.count ?? 0, width: image?.width ?? 0, tokenWidth: text.token_width ?? 0 }
}

/** Null where the fusion encoder reads the tokens of the dual encoder. */
export function ownTokens({ fusion_encoder: fusion }: Manifest): OwnTokens | null {
  const { image_encoder: image, tokenizer, max_tokens: maxTokens } = fusion ?? {}
  if (image === undefined || tokenizer === undefined || maxTokens === undefined) return null
  return { image_encoder: image, tokenizer, max_tokens: maxTokens }
}

/** A file of the bundle: relative path, size, and SHA-256 in hexadecimal. */
export interface FileEntry {
  path: string
  bytes: number
  sha256: string
}
