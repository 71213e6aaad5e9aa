/** Models of this service: the tokenizer in this process, images and graphs in workers. */
import { totalmem } from 'node:os'
import { TandemError } from '../../errors.js'
import type {
  BatchSizes,
  Call,
  EncodedImage,
  EncodedText,
  Match,
  ModelInfo,
  Models,
  ModelStats,
  Pair,
  StageTimings,
} from '../models.js'
import type { Report, WorkerStatus } from '../../worker/worker-process.js'
import { Batcher, type Lane, type Waited } from '../queue/batcher.js'
import { openBundle } from '../bundle/open.js'
import { availableCores } from '../inference/cpu-quota.js'
import { Decoder } from '../image/decoder.js'
import type { Decoded } from '../image/decoder-worker.js'
import { imageLane, textLane, tokensLane } from './dual-encoder.js'
import { splitComparison } from './comparison.js'
import { calibrate, fusionLane } from './fusion-encoder.js'
import type { Inference } from '../inference/process.js'
import { InferencePool } from '../inference/pool.js'
import type { Provider } from '../onnx/provider.js'
import {
  languagesOf,
  ownTokens,
  textEncodersOf,
  tokenSizes,
  type Manifest,
  type MatchRule,
  type PixelRules,
} from '../bundle/bundle.js'
import { PixelFiles, type Pixels } from '../inference/pixel-files.js'
import { readGoldens, checkGoldens } from './goldens.js'
import { OwnTokenizer } from './own-tokens.js'
import { TextReader, type ReadText } from './text-reader.js'

const DEFAULT_MAX_QUEUE = 2048
const NO_TOKENS = new Int8Array()

export interface ModelsOptions {
  /** The folder of the bundle. */
  folder: string
  /** Threads for inference on the CPU in all; 0 for as many as there are cores. */
  inferenceThreads: number
  /** What the graphs may run on, in order: the first that passes its test. CPU by default. */
  providers?: readonly Provider[]
  /** Numbers of the GPUs, each used by a process of its own; the first GPU by default. */
  devices?: readonly number[]
  /**
   * Folder for graphs that are optimised for the CPU of this machine, so that a start is quick and
   * processes share the weights; none by default. It may be removed at any time.
   */
  graphCacheFolder?: string
  /** Images with more pixels are refused by their header. */
  maxImagePixels: number
  /** Inputs that may wait for the models before new ones are refused as `overloaded`. */
  maxQueue?: number
  /** Gets what happens to the processes, for the log. */
  report?: Report
  /** Gets once what the graphs run on, for the log. */
  note?: Report
}

interface Parts {
  manifest: Manifest
  fingerprint: string
  reader: TextReader
  inference: InferencePool
  decoder: Decoder
  batcher: Batcher
  pixelFiles: PixelFiles
  /** Null where the fusion encoder reads the tokens of the dual encoder. */
  own: OwnTokenizer | null
}

/**
 * Opens the bundle, and starts the processes that decode images and run graphs.
 * @throws BundleError when the bundle cannot be used
 */
export async function openModels(options: ModelsOptions): Promise<Models> {
  const { maxQueue = DEFAULT_MAX_QUEUE, report, note } = options
  const {
    folder,
    maxImagePixels,
    inferenceThreads,
    providers = ['cpu'],
    devices = [0],
    graphCacheFolder = null,
  } = options
  const cores = availableCores()
  const threads = inferenceThreads === 0 ? cores : inferenceThreads
  const memory = Math.min(totalmem(), process.constrainedMemory() || Infinity)
  const bundle = await openBundle(folder)
  const { manifest, fingerprint } = bundle
  const reader = await TextReader.open(bundle)
  const own = await OwnTokenizer.open(bundle)
  const decoder = await Decoder.open({
    maxPixels: maxImagePixels,
    maxWaiting: maxQueue,
    report,
  })
  const open = async (): Promise<InferencePool> => {
    const recorded = await readGoldens(
      bundle,
      async (bytes, rules) => (await decoder.decode(bytes, rules)).pixels,
    )
    const test = (one: Inference): Promise<void> => checkGoldens(bundle, recorded, own, one)
    return InferencePool.open(
      { bundle, threads, memory, providers, devices, graphCacheFolder, test },
      report,
    )
  }
  const inference = await open().catch(async (error: unknown) => {
    await decoder.close()
    throw error
  })
  note?.(describe(inference))
  const batcher = new Batcher(inference, maxQueue)
  return new LocalModels({
    manifest,
    fingerprint,
    reader,
    inference,
    decoder,
    batcher,
    pixelFiles: await PixelFiles.open(),
    own,
  })
}

function describe({ provider, size, limits: { image, text, fusion } }: InferencePool): string {
  const where = size === 1 ? provider : `${provider}, ${size} processes`
  return `The graphs run on ${where}, in batches of up to ${image} images, ${text} tokens of texts or ${fusion} pairs.`
}

class LocalModels implements Models {
  readonly info: ModelInfo
  readonly #parts: Parts
  readonly encodeTokens?: Models['encodeTokens'] & object
  readonly #lanes
  /** Of each text encoder. */
  readonly #rules: readonly MatchRule[]

  constructor(parts: Parts) {
    const {
      manifest,
      inference: { limits, padding },
    } = parts
    this.#parts = parts
    const fusion =
      manifest.fusion_encoder === undefined ? null : fusionLane(manifest, limits.fusion)
    this.#lanes = {
      texts: textEncodersOf(manifest).map((_, encoder) =>
        textLane(manifest, limits.text, padding, encoder),
      ),
      image: imageLane(manifest, limits.image),
      fusion,
      tokens: parts.own === null ? null : tokensLane(manifest, limits.tokens),
    }
    this.#rules = textEncodersOf(manifest).map(({ match }) => match)
    if (parts.own?.isStored === false)
      this.encodeTokens = (images, call) => this.#encodeTokens(images, call)
    this.info = infoOf(manifest, parts.fingerprint)
  }

  async encodeTexts(
    texts: readonly string[],
    call?: Call,
  ): Promise<{ encoded: EncodedText[]; timings: StageTimings }> {
    this.#parts.batcher.admit('text', tokensExpected(texts, this.info.maxTokens), call)
    const started = performance.now()
    const read = await this.#parts.reader.readAll(texts, call?.language, call?.signal)
    const tokenize = performance.now() - started
    const { encoded, queue, inference } = await this.#encode(read, call)
    const { own } = this.#parts
    const tokens =
      own === null || call?.embeddingOnly === true
        ? encoded
        : await own.withTokens(encoded, texts, call?.signal)
    return { encoded: tokens, timings: { tokenize, queue, inference } }
  }

  /** Each text by its encoder, in order. */
  async #encode(
    read: readonly ReadText[],
    call?: Call,
  ): Promise<{ encoded: EncodedText[]; queue: number; inference: number }> {
    const encoded = new Array<EncodedText>(read.length)
    const parts = this.#lanes.texts.map(async (lane, encoder) => {
      const places = [...read.keys()].filter((place) => read[place]?.encoder === encoder)
      const tokenIds = places.map((place) => (read[place] as ReadText).tokenIds)
      const { results, ...waited } = await this.#parts.batcher.submit(lane, tokenIds, call)
      places.forEach((place, row) => (encoded[place] = results[row] as EncodedText))
      return waited
    })
    const waited = await Promise.all(parts)
    return {
      encoded,
      queue: Math.max(...waited.map(({ queue }) => queue)),
      inference: waited.reduce((sum, { inference }) => sum + inference, 0),
    }
  }

  async encodeImages(
    images: readonly Uint8Array[],
    call?: Call,
  ): Promise<{ encoded: EncodedImage[]; timings: StageTimings }> {
    const { batcher, decoder, own } = this.#parts
    // Images that are being decoded also go through the image encoder before these.
    const weight = images.length + decoder.ahead(images, call)
    batcher.admit('image', weight, call, decoder.waitMs(images, call))
    const started = performance.now()
    const ready = await this.#preprocessAll(images, this.#parts.manifest.image_encoder, call)
    const preprocess = performance.now() - started
    const pixels = ready.map((image) => image.pixels)
    const { results, queue, inference } = await this.#runPixels(this.#lanes.image, pixels, call)
    const encoded = ready.map(({ image }, i) => ({
      ...(results[i] as (typeof results)[number]),
      image,
    }))
    const timings = { preprocess, queue, inference }
    if (own?.isStored !== true || call?.embeddingOnly === true) return { encoded, timings }
    const { tokens, timings: further } = await this.#encodeTokens(images, call)
    return {
      encoded: encoded.map((image, i) => ({ ...image, imageTokens: tokens[i] ?? NO_TOKENS })),
      timings: {
        preprocess: preprocess + further.preprocess,
        queue: Math.max(queue, further.queue),
        inference: inference + further.inference,
      },
    }
  }

  /** Tokens of a fusion encoder with an image encoder of its own. */
  async #encodeTokens(
    images: readonly Uint8Array[],
    call?: Call,
  ): Promise<{ tokens: Int8Array[]; timings: Required<Omit<StageTimings, 'tokenize'>> }> {
    const { own } = this.#parts
    const { tokens: lane } = this.#lanes
    if (own === null || lane === null) throw new Error('the bundle has no tokens of its own')
    const started = performance.now()
    // Pixels alone. The pairs that follow were announced with the query.
    const decoded = await this.#preprocessAll(images, own.rules, { ...call, embeddingOnly: true })
    const preprocess = performance.now() - started
    const pixels = decoded.map((image) => image.pixels)
    const { results, queue, inference } = await this.#runPixels(lane, pixels, {
      ...call,
      embeddingOnly: false,
      pairsAhead: 0,
    })
    return { tokens: results, timings: { preprocess, queue, inference } }
  }

  async #runPixels<Result>(
    lane: Lane<Pixels, Result>,
    pixels: readonly Pixels[],
    call?: Call,
  ): Promise<Waited<Result>> {
    const { batcher, pixelFiles } = this.#parts
    try {
      return await batcher.submit(lane, pixels, call)
    } catch (error) {
      for (const input of pixels) pixelFiles.removeLater(input)
      throw error
    }
  }

  async match(
    texts: readonly EncodedText[],
    imageTokens: readonly Int8Array[],
    pairs: readonly Pair[],
    call?: Call,
  ): Promise<{ matches: Match[]; timings: StageTimings }> {
    const { fusion } = this.#lanes
    const encoderOf = ({ text }: Pair): number => texts[text]?.encoder ?? 0
    // Without the fusion encoder, the similarity alone is calibrated.
    const order =
      fusion === null
        ? []
        : [...pairs.keys()].filter((place) => encoderOf(pairs[place] as Pair) === 0)
    order.sort((a, b) => tokensOf(texts, pairs, a) - tokensOf(texts, pairs, b))
    const logits = new Array<number>(pairs.length).fill(0)
    const timings: StageTimings = {}
    if (fusion !== null && order.length > 0) {
      const sorted = order.map((place) => pairs[place] as Pair)
      const comparisons = splitComparison(
        { texts, imageTokens, pairs: sorted },
        { pairs: fusion.maxWeight },
      )
      const { results, ...waited } = await this.#parts.batcher.submit(fusion, comparisons, call)
      results
        .flatMap((part) => [...part])
        .forEach((logit, i) => (logits[order[i] as number] = logit))
      Object.assign(timings, waited)
    }
    const matches = pairs.map((pair, i) =>
      calibrate(this.#rules[encoderOf(pair)] as MatchRule, logits[i] as number, pair.similarity),
    )
    return { matches, timings }
  }

  stats(): ModelStats {
    const { queueDepth, inFlight, batches } = this.#parts.batcher
    const isRun = ({ graph }: BatchSizes): boolean =>
      graph !== 'tokens' || this.#lanes.tokens !== null
    return { queueDepth, inFlight, batches: batches.filter(isRun) }
  }

  get workers(): readonly WorkerStatus[] {
    const { inference, decoder } = this.#parts
    return [...inference.statuses, ...decoder.statuses]
  }

  async close(): Promise<void> {
    const { inference, decoder, pixelFiles } = this.#parts
    await Promise.all([inference.close(), decoder.close()])
    await pixelFiles.close()
  }

  #preprocessAll(
    images: readonly Uint8Array[],
    rules: PixelRules,
    call?: Call,
  ): Promise<Decoded[]> {
    const { decoder, pixelFiles } = this.#parts
    const isStored = call?.embeddingOnly !== true
    const decode = (bytes: Uint8Array): Promise<Decoded> =>
      pixelFiles.withFile((into) => decoder.decode(bytes, rules, { ...call, into, isStored }))
    const decoded = images.map(decode)
    const named = decoded.map((image, place) =>
      image.catch((error: unknown) => {
        throw images.length > 1 ? placed(error, place, images.length) : error
      }),
    )
    return Promise.all(named).catch((error: unknown) => {
      // The pixels of the other images are not needed.
      for (const image of decoded)
        image.then(
          ({ pixels }) => pixelFiles.remove(pixels),
          () => undefined,
        )
      throw error
    })
  }
}

/** The same error with the place of the image in front. */
function placed(error: unknown, place: number, count: number): unknown {
  return error instanceof TandemError ? error.about(`Image ${place + 1} of ${count}`) : error
}

/** Estimate before tokenizing: four characters a token, and two special tokens. */
function tokensExpected(texts: readonly string[], most: number): number {
  return texts.reduce((sum, { length }) => sum + Math.min(most, 2 + Math.ceil(length / 4)), 0)
}

function tokensOf(texts: readonly EncodedText[], pairs: readonly Pair[], place: number): number {
  return texts[pairs[place]?.text ?? -1]?.tokenCount ?? 0
}

function infoOf(manifest: Manifest, fingerprint: string): ModelInfo {
  const { name, version, description, license, embedding } = manifest
  const encoders = textEncodersOf(manifest)
  const { count, width, tokenWidth } = tokenSizes(manifest)
  return {
    name,
    version,
    description,
    license,
    commercialUse: manifest.commercial_use,
    calibrated: encoders.every(({ match }) => match.calibrated ?? true),
    languages: languagesOf(manifest),
    textEncoders: encoders.map(({ languages }) => ({ languages })),
    fingerprint,
    dim: embedding.dim,
    imageTokens: { count, width },
    tokenWidth,
    maxTokens: Math.max(
      ...encoders.map(({ max_tokens: most }) => most),
      ownTokens(manifest)?.max_tokens ?? 0,
    ),
    rerank: manifest.rerank,
  }
}
