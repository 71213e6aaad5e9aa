/**
 * Checks the graphs on each device against the inputs and outputs that training recorded, because a
 * provider may compute wrong numbers without an error.
 */
import { cosine } from '../../vector-index/normalise.js'
import type { EncodedText } from '../models.js'
import {
  BundleError,
  ownTokens,
  textEncodersOf,
  type Bundle,
  type Manifest,
  type PixelRules,
} from '../bundle/bundle.js'
import { readBundleFile } from '../bundle/bundle-file.js'
import { imageLane, textLane, tokensLane } from './dual-encoder.js'
import type { OwnTokenizer } from './own-tokens.js'
import { fusionLane } from './fusion-encoder.js'
import type { Inference } from '../inference/process.js'
import type { Pixels } from '../inference/pixel-files.js'

/** The fields that are checked; training/tandem_training/bundle/goldens.py writes the file. */
interface Goldens {
  /** `encoder` is the position of the text encoder; 0 if it is absent. */
  texts: { text: string; token_ids: number[]; embedding: number[]; encoder?: number }[]
  image: { file: string; embedding: number[]; image_tokens_head: number[] }
  matches: { text: number; logit: number }[]
  tolerances: { embedding_cosine: number; logit: number; image_token?: number }
}

/** Recorded inputs, with the image decoded, and outputs. */
export interface Recorded {
  goldens: Goldens
  pixels: Pixels
  /** For the image encoder of the fusion encoder, if it has one. */
  tokenPixels: Pixels | null
}

/** Default tolerance of image tokens, in steps of int8. */
const TOKEN_TOLERANCE = 1

/**
 * Reads the goldens of a bundle.
 * @param decode - turns the bytes of an image into pixels by the rules of an image encoder
 * @throws BundleError when the file is missing or malformed
 */
export async function readGoldens(
  bundle: Bundle,
  decode: (bytes: Uint8Array, rules: PixelRules) => Promise<Pixels>,
): Promise<Recorded> {
  const { manifest } = bundle
  const path = manifest.goldens
  try {
    const goldens = JSON.parse((await readBundleFile(bundle, path)).toString('utf8')) as Goldens
    const { texts, image, matches, tolerances } = goldens
    const isComplete = texts.length > 0 && matches.every(({ text }) => texts[text] !== undefined)
    if (!isComplete || ![tolerances.embedding_cosine, tolerances.logit].every(Number.isFinite))
      throw new Error('a field is missing')
    const bytes = await readBundleFile(bundle, image.file)
    const own = ownTokens(manifest)
    return {
      goldens,
      pixels: await decode(bytes, manifest.image_encoder),
      tokenPixels: own && (await decode(bytes, own.image_encoder)),
    }
  } catch (error) {
    if (error instanceof BundleError) throw error
    throw new BundleError(
      `${path} of the bundle in ${bundle.folder} does not hold goldens: ${(error as Error).message}`,
    )
  }
}

/**
 * @param own - reads texts for a fusion encoder that reads tokens of its own
 * @throws BundleError for an output beyond its tolerance; what a run throws
 */
export async function checkGoldens(
  { manifest }: Bundle,
  { goldens, pixels, tokenPixels }: Recorded,
  own: Pick<OwnTokenizer, 'tokensOf'> | null,
  inference: Pick<Inference, 'run'>,
): Promise<void> {
  const { texts, image: recorded, matches, tolerances } = goldens
  const check = (what: string, differs: number, within: number): void => {
    if (!(differs <= within)) {
      throw new BundleError(
        `The ${what} of the goldens is ${rounded(differs)} off; ${rounded(within)} is tolerated.`,
      )
    }
  }
  const angle = 1 - tolerances.embedding_cosine

  const encoded = new Array<EncodedText>(texts.length)
  for (const encoder of textEncodersOf(manifest).keys()) {
    const places = [...texts.keys()].filter((place) => (texts[place]?.encoder ?? 0) === encoder)
    if (places.length === 0)
      throw new BundleError(`The goldens have no text for the text encoder ${encoder}.`)
    const lane = textLane(manifest, Infinity, Infinity, encoder)
    const tokenIds = places.map((place) => texts[place]?.token_ids ?? [])
    const { outputs } = await inference.run(lane.graph, lane.assemble(tokenIds))
    lane.split(outputs, tokenIds).forEach((text, row) => (encoded[places[row] as number] = text))
  }
  encoded.forEach(({ embedding }, i) =>
    check('text embedding', 1 - cosine(embedding, texts[i]?.embedding ?? []), angle),
  )

  const imagesLane = imageLane(manifest, 1)
  const [image] = imagesLane.split(
    (await inference.run('image', imagesLane.assemble([pixels]))).outputs,
    [pixels],
  )
  if (image === undefined)
    throw new BundleError('The image graph has no output for the image of the goldens.')
  check('image embedding', 1 - cosine(image.embedding, recorded.embedding), angle)
  const imageTokens =
    tokenPixels === null ? image.imageTokens : await tokensOf(manifest, tokenPixels, inference)
  const steps = recorded.image_tokens_head.map((token, i) =>
    Math.abs(token - (imageTokens[i] ?? Number.NaN)),
  )
  check('image token', Math.max(0, ...steps), tolerances.image_token ?? TOKEN_TOLERANCE)

  const pairs = matches.map(({ text }) => ({ text, image: 0, similarity: 0 }))
  if (manifest.fusion_encoder === undefined || pairs.length === 0) return
  const read = encoded.map((text, i) =>
    own === null ? text : { ...text, ...own.tokensOf(texts[i]?.text ?? '') },
  )
  const comparison = [{ texts: read, imageTokens: [imageTokens], pairs }]
  const pairsLane = fusionLane(manifest, pairs.length)
  const [logits = new Float32Array()] = pairsLane.split(
    (await inference.run('fusion', pairsLane.assemble(comparison))).outputs,
    comparison,
  )
  matches.forEach(({ logit }, i) =>
    check('logit', Math.abs(logit - (logits[i] ?? Number.NaN)), tolerances.logit),
  )
}

async function tokensOf(
  manifest: Manifest,
  pixels: Pixels,
  inference: Pick<Inference, 'run'>,
): Promise<Int8Array> {
  const lane = tokensLane(manifest, 1)
  const { outputs } = await inference.run('tokens', lane.assemble([pixels]))
  return lane.split(outputs, [pixels])[0] ?? new Int8Array()
}

function rounded(number: number): number {
  return Number(number.toPrecision(3))
}
