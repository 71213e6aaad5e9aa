/**
 * Models for tests without a bundle. An "image" is a word in UTF-8; texts and images that share
 * words are near each other.
 */
import { TandemError } from '../../src/errors.js'
import type {
  Call,
  ModelInfo,
  EncodedImage,
  EncodedText,
  Match,
  Models,
  ModelStats,
} from '../../src/model/models.js'
import type { WorkerStatus } from '../../src/worker/worker-process.js'

const DIM = 64

/** Counts of word hashes, L2-normalised: texts that share words have a positive cosine. */
export function embeddingOf(text: string): Float32Array {
  const counts = new Float32Array(DIM)
  for (const word of text.toLowerCase().split(/\W+/)) {
    const dimension = [...word].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % DIM, 7)
    counts[dimension] = (counts[dimension] ?? 0) + 1
  }
  const length = Math.hypot(...counts)
  return counts.map((count) => count / length)
}

const info = {
  name: 'words',
  version: '1.0.0',
  description: '',
  license: '',
  calibrated: true,
  languages: ['en'],
  textEncoders: [{ languages: ['en'] }],
  fingerprint: '0123456789abcdef',
  dim: DIM,
  imageTokens: { count: 1, width: 4 },
  tokenWidth: 1,
  maxTokens: 64,
  rerank: { default: true, candidates: 8 },
} as const

/** The match is the number after a word ("dog 7"), so the order differs from similarity. */
export class WordModels implements Models {
  readonly info: ModelInfo = info
  workers: WorkerStatus[] = []
  batches: ModelStats['batches'] = []
  /** Awaited before each call; a test can delay the models or make them fail. */
  gate: (signal?: AbortSignal) => Promise<void> = () => Promise.resolve()
  /** `embeddingOnly` of each call. */
  readonly embeddingOnly: boolean[] = []
  /** If set, each value of an image embedding, for tests of invalid embeddings. */
  invalidValue: number | undefined

  async encodeTexts(texts: readonly string[], call?: Call) {
    this.embeddingOnly.push(call?.embeddingOnly ?? false)
    await this.gate(call?.signal)
    const encoded = texts.map((text): EncodedText => ({
      embedding: embeddingOf(text),
      textTokens: new Float32Array(1),
      tokenCount: 1,
      encoder: 0,
    }))
    return { encoded, timings: { tokenize: 1, inference: 2 } }
  }

  async encodeImages(images: readonly Uint8Array[], call?: Call) {
    this.embeddingOnly.push(call?.embeddingOnly ?? false)
    await this.gate(call?.signal)
    const encoded = images.map((bytes): EncodedImage => {
      const word = Buffer.from(bytes).toString()
      if (word.startsWith('bad')) throw new TandemError('image_unreadable', 'The image is cut off.')
      const imageTokens = new Int8Array([Number(/\d+/.exec(word)?.[0] ?? 0), 0, 0, 0])
      const embedding = embeddingOf(word)
      if (this.invalidValue !== undefined) embedding.fill(this.invalidValue)
      return { embedding, imageTokens, image: { bytes, mime: 'image/jpeg', width: 4, height: 3 } }
    })
    return { encoded, timings: { preprocess: 1, inference: 2 } }
  }

  match(
    _texts: readonly EncodedText[],
    imageTokens: readonly Int8Array[],
    pairs: readonly { image: number }[],
  ) {
    const matches = pairs.map(({ image }): Match => {
      const logit = imageTokens[image]?.[0] ?? 0
      return { logit, match: 1 / (1 + Math.exp(-logit)) }
    })
    return Promise.resolve({ matches, timings: { inference: 3 } })
  }

  stats() {
    return { queueDepth: 0, inFlight: 0, batches: this.batches }
  }

  close() {
    return Promise.resolve()
  }
}
