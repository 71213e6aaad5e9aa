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

/**
 * What a graph computes with; its inputs and outputs are the same for all. An fp16 graph is for a
 * GPU.
 */
export type Precision = 'fp32' | 'fp16' | 'int8'

export interface Manifest {
  schema_version: 1
  name: string
  version: string
  description: string
  license: string
  languages: string[]
  embedding: { dim: number }
  /** There exactly where a fusion encoder reads them. */
  image_tokens?: { count: number; width: number; dtype: 'int8' }
  image_encoder: { file: string; size: number; fit: 'fill'; precision?: Precision }
  /** `token_width` is there where a fusion encoder reads the text tokens. */
  text_encoder: {
    file: string
    tokenizer: string
    max_tokens: number
    token_width?: number
    precision?: Precision
  }
  /** Absent in a dual encoder alone. */
  fusion_encoder?: { file: string; precision?: Precision }
  /**
   * match = sigmoid(argument), argument = logit × ITM logit + similarity × cosine + bias. With
   * `knots`, pairs of argument and match that both rise, the match is read off the line through
   * them instead.
   */
  match: { logit: number; similarity: number; bias: number; knots?: [number, number][] }
  /**
   * One whose similarity is more than `margin` below that of the k-th candidate does not come among
   * the first k.
   */
  rerank: { default: boolean; candidates: number; margin?: number }
  goldens: string
  metrics: Record<string, unknown>
  files: FileEntry[]
}

/** Sizes of the tokens that the fusion encoder reads: 0 where there is none. */
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
