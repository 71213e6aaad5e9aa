/** The contract of the models: texts and images in, embeddings, tokens and match scores out. */
import type { Priority } from '../async/priority.js'
import type { WorkerStatus } from '../worker/worker-process.js'

/** A text after the text encoder. */
export interface EncodedText {
  /** L2-normalised, `info.dim` values. */
  embedding: Float32Array
  /** `tokenCount × info.tokenWidth` values, row by row, without padding. */
  textTokens: Float32Array
  tokenCount: number
  /** Position among `info.textEncoders` of the one that read it. */
  encoder: number
}

/** An image as it is stored: re-encoded, at most 512 pixels on its long side. */
export interface Image {
  bytes: Uint8Array
  mime: 'image/jpeg'
  width: number
  height: number
}

/** An image after the image encoder. */
export interface EncodedImage {
  /** L2-normalised, `info.dim` values. */
  embedding: Float32Array
  /**
   * `info.imageTokens.count × info.imageTokens.width` quantised values, for `match` alone. Empty
   * where `encodeTokens` gives them.
   */
  imageTokens: Int8Array
  image: Image
}

/** A text and an image by their rows in the lists of `match`, with their cosine similarity. */
export interface Pair {
  text: number
  image: number
  similarity: number
}

export interface Match {
  /** Argument of the sigmoid. Hits are ordered by it, because `match` saturates at 1. */
  logit: number
  /** Calibrated probability in [0, 1] that the text describes the image. */
  match: number
}

/** Milliseconds of each stage; for a batch, the longest wait and the sum of the work. */
export type StageTimings = Partial<
  Record<'preprocess' | 'tokenize' | 'queue' | 'inference', number>
>

/** The bundle in use. */
export interface ModelInfo {
  readonly name: string
  readonly version: string
  readonly description: string
  readonly license: string
  /** False if the license forbids it; undefined where nobody looked. */
  readonly commercialUse?: boolean | undefined
  /** Whether `match` was fitted on pairs; otherwise it orders and is no probability. */
  readonly calibrated: boolean
  /** Of all text encoders. */
  readonly languages: readonly string[]
  /** The languages of each; the fusion encoder compares only texts of the first. */
  readonly textEncoders: readonly { readonly languages: readonly string[] }[]
  /** 16 hexadecimal digits, the same for bundles whose embeddings and tokens can be mixed. */
  readonly fingerprint: string
  readonly dim: number
  /** Both 0 without a fusion encoder, as is `tokenWidth`; pairs are then matched by similarity. */
  readonly imageTokens: { readonly count: number; readonly width: number }
  readonly tokenWidth: number
  readonly maxTokens: number
  /**
   * Whether to rerank by default, and how many candidates. A candidate whose similarity is more
   * than `margin` below that of the k-th does not reach the first k.
   */
  readonly rerank: {
    readonly default: boolean
    readonly candidates: number
    readonly margin?: number | undefined
  }
}

/** Options of a call, from the request that it belongs to. */
export interface Call {
  /** Work that has not started when it aborts never runs; the call rejects with its reason. */
  signal?: AbortSignal | undefined
  /** Interactive by default; bulk work gives way to it. */
  priority?: Priority | undefined
  /** Of the texts (BCP 47), which chooses the text encoder; identified if it is not given. */
  language?: string | undefined
  /** Clients take turns at what they share. */
  client?: string | undefined
  /** On the clock of `performance.now()`; work that would miss it is refused as `overloaded`. */
  deadline?: number | undefined
  /** Pairs to be matched next: a search that cannot be reranked in time is refused early. */
  pairsAhead?: number | undefined
  /** Nothing is matched or stored: tokens and the bytes of images may be empty. */
  embeddingOnly?: boolean | undefined
  /**
   * Gets each stage of the request when it ends, with its begin on the clock of
   * `performance.now()`; undefined where nothing records spans.
   */
  onStage?: ((begun: number, timings: Record<string, number>) => void) | undefined
  /** W3C trace context of the request, for a remote encoder. */
  trace?: { readonly traceparent: string; readonly tracestate: string | undefined } | undefined
}

/** How many batches of a graph had how many inputs, since the start. */
export interface BatchSizes {
  readonly graph: 'text' | 'image' | 'fusion' | 'tokens'
  /** Batches with at most `limit` inputs. */
  readonly buckets: readonly { readonly limit: number; readonly batches: number }[]
  readonly batches: number
  readonly inputs: number
}

export interface ModelStats {
  /** Inputs that wait. */
  queueDepth: number
  /** Inputs in the running batches. */
  inFlight: number
  /** Sizes of the batches of each graph; empty where another service runs them. */
  batches: readonly BatchSizes[]
}

export interface Models {
  readonly info: ModelInfo
  /**
   * Results are in the order of `texts`. Texts are cut to `info.maxTokens` tokens.
   * @throws TandemError `overloaded`, `model_unavailable`, or the reason of the call's signal
   */
  encodeTexts(
    texts: readonly string[],
    call?: Call,
  ): Promise<{ encoded: EncodedText[]; timings: StageTimings }>
  /**
   * Decodes, re-encodes and embeds image files, in order. One bad image fails the call; with
   * several images the message starts with its place ("Image 2 of 5: …").
   * @throws TandemError `image_type_unsupported`, `image_unreadable`, `image_too_large`,
   *   `image_too_costly`, `decoder_unavailable`, and those of `encodeTexts`
   */
  encodeImages(
    images: readonly Uint8Array[],
    call?: Call,
  ): Promise<{ encoded: EncodedImage[]; timings: StageTimings }>
  /**
   * Image tokens of stored images, in order; undefined where `encodeImages` gives them.
   * @throws TandemError as `encodeImages`
   */
  readonly encodeTokens?: (
    images: readonly Uint8Array[],
    call?: Call,
  ) => Promise<{ tokens: Int8Array[]; timings: StageTimings }>
  /**
   * Runs the fusion encoder, if there is one, on each pair. Results are in the order of `pairs`.
   * @throws TandemError as `encodeTexts`
   */
  match(
    texts: readonly EncodedText[],
    imageTokens: readonly Int8Array[],
    pairs: readonly Pair[],
    call?: Call,
  ): Promise<{ matches: Match[]; timings: StageTimings }>
  stats(): ModelStats
  /** The processes of the models. */
  readonly workers: readonly WorkerStatus[]
  /**
   * Finishes the running batches and images, fails waiting inputs with `model_unavailable`, and
   * ends the processes.
   */
  close(): Promise<void>
}
