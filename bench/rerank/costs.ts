/** Cost of reranking against the encoders, in alternating rounds. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { CaptionedImage } from '../../src/cli/captions/dataset.js'
import type { Models } from '../../src/model/models.js'
import { withinMargin } from '../../src/retrieval/rerank-margin.js'
import { median } from '../../test/soak/figures.js'
import { matched, recalled, type EncodedPhotos } from './encoded-photos.js'

const HITS = 10

/** Medians over the rounds, in milliseconds. */
export interface Costs {
  rounds: number
  /** Candidates reranked by default. */
  candidates: number
  /** The image encoder on one photo, decoding not counted. */
  image: number
  /**
   * The image encoder on as many photos as there are candidates, in batches, decoding not counted.
   */
  images: number
  text: number
  /**
   * By candidates: how long the pipeline waits for it, and the sum of the batches of the fusion
   * encoder, which run side by side.
   */
  depths: { candidates: number; rerank: number; inference: number }[]
  /** Of the candidates within the margin among the default number, for ten hits. */
  contenders: { mean: number; rerank: number }
  /** The longest block of the event loop. */
  blocked: number
}

export async function costsOf(
  models: Models,
  photos: readonly CaptionedImage[],
  encoded: EncodedPhotos,
  { rounds, depths }: { rounds: number; depths: readonly number[] },
): Promise<Costs> {
  const { candidates, margin } = models.info.rerank
  const taken: Record<string, number[]> = {}
  const note = (what: string, value: number): unknown => (taken[what] ??= []).push(value)
  const images = Array.from(
    { length: candidates },
    (_, at) => (photos[at % photos.length] as CaptionedImage).image,
  )
  for (let round = 0; round < rounds; round += 1) {
    const photo = photos[round % photos.length] as CaptionedImage
    note('image', (await models.encodeImages([photo.image])).timings.inference ?? 0)
    const { encoded: texts, timings } = await models.encodeTexts(photo.captions.slice(0, 1))
    note('text', timings.inference ?? 0)
    const [text] = texts
    if (text === undefined) throw new Error(`${photo.key} has no caption`)
    const ordered = recalled(encoded, text)
    // A new one each round: it counts the time between one and the next as a delay.
    const monitor = monitorEventLoopDelay({ resolution: 1 })
    monitor.enable()
    for (const depth of depths) {
      const some = repeated(ordered, depth)
      const tokens = some.map(({ image }) => encoded.images[image]?.imageTokens ?? new Int8Array())
      const begun = performance.now()
      const { timings } = await models.match(
        [text],
        tokens,
        some.map(({ similarity }, image) => ({ text: 0, image, similarity })),
      )
      note(`rerank ${depth}`, performance.now() - begun)
      note(`inference ${depth}`, timings.inference ?? 0)
    }
    const close = withinMargin(repeated(ordered, candidates), HITS, margin)
    const begun = performance.now()
    await matched(models, encoded, text, close)
    note('contenders', performance.now() - begun)
    note('close', close.length)
    monitor.disable()
    note('blocked', monitor.max / 1e6)
    note('images', (await models.encodeImages(images)).timings.inference ?? 0)
  }
  const middle = (what: string): number => median(taken[what] ?? [])
  return {
    rounds,
    candidates,
    image: middle('image'),
    images: middle('images'),
    text: middle('text'),
    depths: depths.map((depth) => ({
      candidates: depth,
      rerank: middle(`rerank ${depth}`),
      inference: middle(`inference ${depth}`),
    })),
    contenders: {
      mean: (taken['close'] ?? []).reduce((sum, one) => sum + one, 0) / rounds,
      rerank: middle('contenders'),
    },
    blocked: Math.max(...(taken['blocked'] ?? [])),
  }
}

/** The first `count`, repeated if there are fewer. */
function repeated<One>(some: readonly One[], count: number): One[] {
  return Array.from({ length: count }, (_, at) => some[at % some.length] as One)
}
