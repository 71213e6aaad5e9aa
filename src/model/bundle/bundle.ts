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
  /** Present with a fusion encoder. */
  image_tokens?: { count: number; width: number; dtype: 'int8' }
  image_encoder: PixelRules & { file: string; precision?: Precision }
  /** `token_width` is present with a fusion encoder. */
  text_encoder: {
    file: string
    tokenizer: string
    max_tokens: number
    token_width?: number
    precision?: Precision
  }
  /** Absent in a bundle that is a dual encoder alone. */
  fusion_encoder?: { file: string; precision?: Precision }
  /**
   * match = sigmoid(argument), argument = logit × ITM logit + similarity × cosine + bias. With
   * `knots`, increasing pairs of argument and match, the match is interpolated between them.
   */
  match: {
    logit: number
    similarity: number
    bias: number
    knots?: [number, number][]
    /** False if the rule was not fitted on pairs; true by default. */
    calibrated?: boolean
  }
  /** Candidates more than `margin` below the k-th similarity do not reach the first k. */
  rerank: { default: boolean; candidates: number; margin?: number }
  goldens: string
  metrics: Record<string, unknown>
  files: FileEntry[]
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

/** A file of the bundle: relative path, size, and SHA-256 in hexadecimal. */
export interface FileEntry {
  path: string
  bytes: number
  sha256: string
}
