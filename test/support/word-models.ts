/**
 * Rooms for tests of what is around the model: a "image" is a word in UTF-8, and texts and images
 * of the same words are near. The item store is the real one.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildApp, type Limits, type Tandem } from '../../src/http/app.js'
import type { BundleCatalog } from '../../src/collection/embedded/bundle-catalog.js'
import { EmbeddedCollection } from '../../src/collection/embedded/embedded.js'
import { readConfig, type Config } from '../../src/config.js'
import { TandemError } from '../../src/errors.js'
import { openItemStore } from '../../src/item-store/open.js'
import type {
  Call,
  ModelInfo,
  EncodedImage,
  EncodedText,
  Match,
  Models,
} from '../../src/model/models.js'
import type { VectorIndex } from '../../src/vector-index/vector-index.js'
import type { WorkerStatus } from '../../src/worker/worker-process.js'

const DIM = 64

/** Counts of word hashes, L2-normalised: texts that share words have a positive cosine. */
export function embeddingOf(text: string): Float32Array {
  const counts = new Float32Array(DIM)
  for (const word of text.toLowerCase().split(/\W+/)) {
    const place = [...word].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % DIM, 7)
    counts[place] = (counts[place] ?? 0) + 1
  }
  const length = Math.hypot(...counts)
  return counts.map((count) => count / length)
}

const info = {
  name: 'words',
  version: '1.0.0',
  description: '',
  license: '',
  languages: ['en'],
  fingerprint: '0123456789abcdef',
  dim: DIM,
  imageTokens: { count: 1, width: 4 },
  tokenWidth: 1,
  maxTokens: 64,
  rerank: { default: true, candidates: 8 },
} as const

/** Matches by the number after a word ("dog 7"), so that reranking has an order of its own. */
export class WordModels implements Models {
  readonly info: ModelInfo = info
  workers: WorkerStatus[] = []
  /** Resolves before anything is encoded: a test may hold the model up, or make it fail. */
  gate: (signal?: AbortSignal) => Promise<void> = () => Promise.resolve()
  /** Whether each call wanted embeddings only. */
  readonly embeddingOnly: boolean[] = []
  /** The value of each number in an embedding of an image, where a test wants a bad one. */
  spoilt: number | undefined

  async encodeTexts(texts: readonly string[], call?: Call) {
    this.embeddingOnly.push(call?.embeddingOnly ?? false)
    await this.gate(call?.signal)
    const encoded = texts.map((text): EncodedText => ({
      embedding: embeddingOf(text),
      textTokens: new Float32Array(1),
      tokenCount: 1,
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
      if (this.spoilt !== undefined) embedding.fill(this.spoilt)
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
    return { queueDepth: 0, inFlight: 0 }
  }

  close() {
    return Promise.resolve()
  }
}

/** An index in memory, which a test can make fail or forget. */
export class MemoryIndex implements VectorIndex {
  readonly vectors = new Map<string, Float32Array>()
  readonly discarded = null
  readonly annRecall = null
  readonly workers: WorkerStatus[] = []
  lost = false
  onReturnCall: () => void = () => undefined
  position = 0
  saves = 0
  fail: Error | undefined
  /** Resolves before anything is added: a test may hold a write up, or make it fail. */
  gate: () => Promise<void> = () => Promise.resolve()

  get size(): number {
    return this.vectors.size
  }

  has(id: string): boolean {
    return this.vectors.has(id)
  }

  ids(): Iterable<string> {
    return this.vectors.keys()
  }

  async upsert(
    entries: readonly { id: string; embedding: Float32Array }[],
    position: number,
  ): Promise<void> {
    await this.gate()
    if (this.fail !== undefined) throw this.fail
    for (const { id, embedding } of entries) this.vectors.set(id, embedding)
    this.position = position
  }

  async remove(ids: readonly string[], position: number): Promise<void> {
    await Promise.resolve()
    if (this.fail !== undefined) throw this.fail
    for (const id of ids) this.vectors.delete(id)
    this.position = position
  }

  search(embedding: Float32Array, candidates: number) {
    if (this.lost) return Promise.reject(this.fail ?? new Error('the index is being recovered'))
    const all = [...this.vectors].map(([id, vector]) => ({
      id,
      similarity: vector.reduce((sum, value, at) => sum + value * (embedding[at] ?? 0), 0),
    }))
    // Equal ones by id: the answers of two services can be compared.
    all.sort((a, b) => b.similarity - a.similarity || (a.id < b.id ? -1 : 1))
    return Promise.resolve(all.slice(0, candidates))
  }

  /**
   * Loses everything, as an index whose process has died without a snapshot; `returns` lets it be
   * recovered.
   */
  lose(): void {
    this.lost = true
    this.fail = new TandemError('index_unavailable', 'The index has lost its process.')
  }

  returns(): void {
    this.fail = undefined
    this.onReturnCall()
  }

  async recover(repair: () => Promise<unknown>): Promise<void> {
    if (this.fail !== undefined) throw this.fail
    this.vectors.clear()
    this.position = 0
    await repair()
    this.lost = false
  }

  onReturn(listener: () => void): void {
    this.onReturnCall = listener
  }

  save() {
    this.saves += 1
    return Promise.resolve()
  }

  close() {
    return Promise.resolve()
  }
}

/** No other bundle is there. */
export const emptyCatalog: BundleCatalog = {
  fingerprintOf: (name) =>
    Promise.reject(new TandemError('bundle_unusable', `There is no bundle ${name}.`)),
  open: (name) => Promise.reject(new Error(`There is no bundle ${name}.`)),
  discard: () => Promise.resolve(),
}

export interface WordTandem extends Tandem {
  models: WordModels
  index: MemoryIndex
  /** Closes the service and removes its folder. */
  end(): Promise<void>
}

/** The whole service around word models, started. */
export async function wordTandem(
  { limits = {}, ...settings }: Partial<Config> & { limits?: Partial<Limits> } = {},
  start = true,
  catalog: BundleCatalog = emptyCatalog,
): Promise<WordTandem> {
  const folder = await mkdtemp(join(tmpdir(), 'tandem-'))
  const models = new WordModels()
  const index = new MemoryIndex()
  const config: Config = { ...readConfig({}), logLevel: 'silent', dataFolder: folder, ...settings }
  const tandem = await buildApp(config, {
    limits,
    open: async () =>
      new EmbeddedCollection(
        { models, index, store: await openItemStore({ folder, fingerprint: info.fingerprint }) },
        catalog,
      ),
  })
  if (start) await tandem.start()
  const end = async (): Promise<void> => {
    await tandem.close()
    await rm(folder, { recursive: true, force: true })
  }
  return { ...tandem, models, index, end }
}
