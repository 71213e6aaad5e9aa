/** The contract of the models: texts and images in, embeddings, tokens and match scores out. */
import type { Priority } from '../async/priority.js'
import type { WorkerStatus } from '../worker/worker-process.js'

/** One sentence as the text encoder sees it. */
export interface EncodedText {
  /** L2-normalised, `info.dim` values. */
  embedding: Float32Array
  /** `tokenCount × info.tokenWidth` values, row by row; padding is already cut off. */
  textTokens: Float32Array
  tokenCount: number
}

/** An image as it is stored and shown: re-encoded, at most 512 pixels on its long side. */
export interface Image {
  bytes: Uint8Array
  mime: 'image/jpeg'
  width: number
  height: number
}

/** One image as the image encoder sees it. */
export interface EncodedImage {
  /** L2-normalised, `info.dim` values. */
  embedding: Float32Array
  /**
   * `info.imageTokens.count × info.imageTokens.width` quantised values: opaque, for `match` alone.
   */
  imageTokens: Int8Array
  image: Image
}

/**
 * A text and an image to compare, by their rows in the lists given to `match`, with their cosine
 * similarity.
 */
export interface Pair {
  text: number
  image: number
  similarity: number
}

export interface Match {
  /**
   * What hits are ordered by: the argument of the sigmoid. It tells pairs apart where `match` is
   * already 1.
   */
  logit: number
  /** Calibrated probability in [0, 1] that the text describes the image. */
  match: number
}

/** Milliseconds that each stage took; for a batch, the longest wait and the sum of the work. */
export type StageTimings = Partial<
  Record<'preprocess' | 'tokenize' | 'queue' | 'inference', number>
>

/** What is worth knowing about the bundle in use. */
export interface ModelInfo {
  readonly name: string
  readonly version: string
  readonly description: string
  readonly license: string
  readonly languages: readonly string[]
  /** 16 hexadecimal digits: the same for bundles whose embeddings and tokens can be mixed. */
  readonly fingerprint: string
  readonly dim: number
  /**
   * Both 0 for a dual encoder alone, whose pairs are matched by their similarity; so is
   * `tokenWidth`.
   */
  readonly imageTokens: { readonly count: number; readonly width: number }
  readonly tokenWidth: number
  readonly maxTokens: number
  /**
   * Whether reranking is worth it by default, and how many candidates to recall for it. One whose
   * similarity is more than `margin` below that of the k-th does not come among the first k by it.
   */
  readonly rerank: {
    readonly default: boolean
    readonly candidates: number
    readonly margin?: number | undefined
  }
}

/** On whose behalf the model works. */
export interface Call {
  /** What has not begun when it fires never runs; the call rejects with its reason. */
  signal?: AbortSignal | undefined
  /**
   * `interactive` is the default: somebody waits for the answer. `bulk` runs while nothing
   * interactive waits.
   */
  priority?: Priority | undefined
  /**
   * On the clock of `performance.now()`; what cannot be done before it is refused at once as
   * `overloaded`.
   */
  deadline?: number | undefined
  /**
   * Pairs that the caller will have matched next: a search that could not be reranked in time is
   * refused before it.
   */
  pairsAhead?: number | undefined
  /** Nothing will be matched or stored: tokens and the bytes of images may come empty. */
  embeddingOnly?: boolean | undefined
  /** W3C trace context of the request, for a service that does a part of it. */
  trace?: { readonly traceparent: string; readonly tracestate: string | undefined } | undefined
}

export interface Models {
  readonly info: ModelInfo
  /**
   * Order is kept. Texts beyond `info.maxTokens` tokens are cut.
   * @throws TandemError `overloaded`, `model_unavailable`, or the reason of the call's signal
   */
  encodeTexts(
    texts: readonly string[],
    call?: Call,
  ): Promise<{ encoded: EncodedText[]; timings: StageTimings }>
  /**
   * Decodes, re-encodes and embeds the bytes of image files. Order is kept; one bad image fails the
   * call, and with several images the sentence begins with its place ("Image 2 of 5: …").
   * @throws TandemError `image_type_unsupported`, `image_unreadable`, `image_too_large`,
   *   `decoder_unavailable`, and those of `encodeTexts`
   */
  encodeImages(
    images: readonly Uint8Array[],
    call?: Call,
  ): Promise<{ encoded: EncodedImage[]; timings: StageTimings }>
  /**
   * Runs the fusion encoder, where there is one, on each pair; answers in the order of `pairs`.
   * @throws TandemError as `encodeTexts`
   */
  match(
    texts: readonly EncodedText[],
    imageTokens: readonly Int8Array[],
    pairs: readonly Pair[],
    call?: Call,
  ): Promise<{ matches: Match[]; timings: StageTimings }>
  /** Entries that wait, and entries inside the batch that runs now. */
  stats(): { queueDepth: number; inFlight: number }
  /** The processes that the model needs. */
  readonly workers: readonly WorkerStatus[]
  /**
   * Answers the batch and the images under way, fails what still waits as `model_unavailable`, and
   * ends the processes.
   */
  close(): Promise<void>
}
