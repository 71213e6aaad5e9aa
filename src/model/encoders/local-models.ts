/** Models of this service: the tokenizer in this process, images and graphs in workers. */
import { totalmem } from 'node:os'
import { TandemError } from '../../errors.js'
import type {
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
import { Batcher } from '../queue/batcher.js'
import { openBundle } from '../bundle/open.js'
import { readBundleFile } from '../bundle/bundle-file.js'
import { availableCores } from '../inference/cpu-quota.js'
import { Decoder } from '../image/decoder.js'
import type { Decoded } from '../image/decoder-worker.js'
import { imageLane, textLane } from './dual-encoder.js'
import { splitComparison } from './comparison.js'
import { calibrate, fusionLane } from './fusion-encoder.js'
import type { Inference } from '../inference/process.js'
import { InferencePool } from '../inference/pool.js'
import type { Provider } from '../onnx/provider.js'
import { tokenSizes, type Manifest } from '../bundle/bundle.js'
import { PixelFiles } from '../inference/pixel-files.js'
import { readGoldens, checkGoldens } from './goldens.js'
import { Tokenizer } from './tokenizer.js'

const DEFAULT_MAX_QUEUE = 2048

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
  tokenizer: Tokenizer
  inference: InferencePool
  decoder: Decoder
  batcher: Batcher
  pixelFiles: PixelFiles
}

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
  const { tokenizer: file, max_tokens: maxTokens } = manifest.text_encoder
  const tokenizer = new Tokenizer(await readBundleFile(bundle, file), maxTokens)
  const decoder = await Decoder.open({
    maxPixels: maxImagePixels,
    maxWaiting: maxQueue,
    report,
  })
  const open = async (): Promise<InferencePool> => {
    const { image_encoder: rules } = manifest
    const recorded = await readGoldens(
      bundle,
      async (bytes) => (await decoder.decode(bytes, rules)).pixels,
    )
    const test = (one: Inference): Promise<void> => checkGoldens(bundle, recorded, one)
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
    tokenizer,
    inference,
    decoder,
    batcher,
    pixelFiles: await PixelFiles.open(),
  })
}

function describe({ provider, size, limits: { image, text, fusion } }: InferencePool): string {
  const where = size === 1 ? provider : `${provider}, ${size} processes`
  return `The graphs run on ${where}, in batches of up to ${image} images, ${text} tokens of texts or ${fusion} pairs.`
}

class LocalModels implements Models {
  readonly info: ModelInfo
  readonly #parts: Parts
  readonly #lanes

  constructor(parts: Parts) {
    const {
      manifest,
      inference: { limits, padding },
    } = parts
    this.#parts = parts
    const fusion =
      manifest.fusion_encoder === undefined ? null : fusionLane(manifest, limits.fusion)
    this.#lanes = {
      text: textLane(manifest, limits.text, padding),
      image: imageLane(manifest, limits.image),
      fusion,
    }
    this.info = infoOf(manifest, parts.fingerprint)
  }

  async encodeTexts(
    texts: readonly string[],
    call?: Call,
  ): Promise<{ encoded: EncodedText[]; timings: StageTimings }> {
    this.#parts.batcher.admit('text', tokensExpected(texts, this.info.maxTokens), call)
    const started = performance.now()
    const tokenIds = await this.#parts.tokenizer.encodeAll(texts, call?.signal)
    const tokenize = performance.now() - started
    const { results, queue, inference } = await this.#parts.batcher.submit(
      this.#lanes.text,
      tokenIds,
      call,
    )
    return { encoded: results, timings: { tokenize, queue, inference } }
  }

  async encodeImages(
    images: readonly Uint8Array[],
    call?: Call,
  ): Promise<{ encoded: EncodedImage[]; timings: StageTimings }> {
    const { batcher, decoder, pixelFiles } = this.#parts
    // Images that are being decoded also go through the image encoder before these.
    const weight = images.length + decoder.ahead(call)
    batcher.admit('image', weight, call, decoder.waitMs(images.length, call))
    const started = performance.now()
    const ready = await this.#preprocessAll(images, call)
    const preprocessed = performance.now() - started
    const pixels = ready.map((image) => image.pixels)
    try {
      const { results, queue, inference } = await batcher.submit(this.#lanes.image, pixels, call)
      const encoded = ready.map(({ image }, i) => ({
        ...(results[i] as (typeof results)[number]),
        image,
      }))
      return { encoded, timings: { preprocess: preprocessed, queue, inference } }
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
    const rule = this.#parts.manifest.match
    // Without a fusion encoder, the similarity alone is calibrated.
    if (this.#lanes.fusion === null) {
      return { matches: pairs.map(({ similarity }) => calibrate(rule, 0, similarity)), timings: {} }
    }
    const order = pairs
      .map((_, place) => place)
      .sort((a, b) => tokensOf(texts, pairs, a) - tokensOf(texts, pairs, b))
    const sorted = order.map((place) => pairs[place] as Pair)
    const comparisons = splitComparison(
      { texts, imageTokens, pairs: sorted },
      { pairs: this.#lanes.fusion.maxWeight },
    )
    const { results, queue, inference } = await this.#parts.batcher.submit(
      this.#lanes.fusion,
      comparisons,
      call,
    )
    const logits = unsorted(
      results.flatMap((part) => [...part]),
      order,
    )
    const matches = pairs.map(({ similarity }, i) =>
      calibrate(rule, logits[i] as number, similarity),
    )
    return { matches, timings: { queue, inference } }
  }

  stats(): ModelStats {
    const { queueDepth, inFlight, batches } = this.#parts.batcher
    return { queueDepth, inFlight, batches }
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

  #preprocessAll(images: readonly Uint8Array[], call?: Call): Promise<Decoded[]> {
    const { manifest, decoder, pixelFiles } = this.#parts
    const isStored = call?.embeddingOnly !== true
    const decode = (bytes: Uint8Array): Promise<Decoded> =>
      pixelFiles.withFile((into) =>
        decoder.decode(bytes, manifest.image_encoder, { ...call, into, isStored }),
      )
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

/** Undoes a sort: `values[i]` goes to place `order[i]`. */
function unsorted<Value>(values: readonly Value[], order: readonly number[]): Value[] {
  const result = new Array<Value>(values.length)
  order.forEach((place, i) => (result[place] = values[i] as Value))
  return result
}

function infoOf(manifest: Manifest, fingerprint: string): ModelInfo {
  const { name, version, description, license, languages, embedding, text_encoder: text } = manifest
  const { count, width, tokenWidth } = tokenSizes(manifest)
  return {
    name,
    version,
    description,
    license,
    commercialUse: manifest.commercial_use,
    calibrated: manifest.match.calibrated ?? true,
    languages,
    fingerprint,
    dim: embedding.dim,
    imageTokens: { count, width },
    tokenWidth,
    maxTokens: text.max_tokens,
    rerank: manifest.rerank,
  }
}
