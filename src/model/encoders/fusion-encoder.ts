/** Batches of the fusion encoder, and the calibration of its logit. */
import type { Match } from '../models.js'
import type { Comparison } from './comparison.js'
import type { Lane } from '../queue/batcher.js'
import { tokenSizes, type Manifest } from '../bundle/bundle.js'
import { floatsOf, maskOf } from '../onnx/tensors.js'

/** A comparison → the ITM logits of its pairs. A batch holds the texts and images of each. */
export function fusionLane(manifest: Manifest, maxWeight: number): Lane<Comparison, Float32Array> {
  const { count, width, tokenWidth } = tokenSizes(manifest)
  return {
    graph: 'fusion',
    maxWeight,
    weigh: ({ pairs }) => pairs.length,
    assemble: (comparisons) => {
      const texts = comparisons.flatMap((comparison) => comparison.texts)
      const images = comparisons.flatMap((comparison) => comparison.imageTokens)
      const { mask, longest } = maskOf(texts.map(({ tokenCount }) => tokenCount))
      const textTokens = new Float32Array(texts.length * longest * tokenWidth)
      texts.forEach((text, row) => textTokens.set(text.textTokens, row * longest * tokenWidth))
      const imageTokens = new Int8Array(images.length * count * width)
      images.forEach((tokens, row) => imageTokens.set(tokens, row * count * width))
      const pairs = pairRows(comparisons)
      return {
        text_tokens: {
          type: 'float32',
          data: textTokens,
          dims: [texts.length, longest, tokenWidth],
        },
        attention_mask: { type: 'int64', data: mask, dims: [texts.length, longest] },
        image_tokens: { type: 'int8', data: imageTokens, dims: [images.length, count, width] },
        pairs: { type: 'int64', data: pairs, dims: [pairs.length / 2, 2] },
      }
    },
    split: (outputs, comparisons) => {
      const logits = floatsOf(outputs, 'logit')
      let end = 0
      return comparisons.map(({ pairs }) => logits.slice(end, (end += pairs.length)))
    },
  }
}

/** The pairs of all comparisons with the rows of the joined lists: [pairs, 2]. */
function pairRows(comparisons: readonly Comparison[]): BigInt64Array {
  let firstText = 0
  let firstImage = 0
  const rows: bigint[] = []
  for (const { texts, imageTokens, pairs } of comparisons) {
    for (const { text, image } of pairs)
      rows.push(BigInt(firstText + text), BigInt(firstImage + image))
    firstText += texts.length
    firstImage += imageTokens.length
  }
  return BigInt64Array.from(rows)
}

/** The calibrated match of an ITM logit and a cosine similarity. */
export function calibrate(rule: Manifest['match'], itmLogit: number, similarity: number): Match {
  const logit = rule.logit * itmLogit + rule.similarity * similarity + rule.bias
  return {
    logit,
    match: rule.knots === undefined ? 1 / (1 + Math.exp(-logit)) : interpolate(rule.knots, logit),
  }
}

/** Linear interpolation between `knots`, constant beyond both ends. */
function interpolate(knots: readonly (readonly [number, number])[], x: number): number {
  const next = knots.findIndex(([argument]) => argument > x)
  // Beyond the last knot, `next` is -1 and `at(-1)` is the last knot.
  const [x1, y1] = knots.at(next) as [number, number]
  if (next <= 0) return y1
  const [x0, y0] = knots[next - 1] as [number, number]
  return y0 + ((y1 - y0) * (x - x0)) / (x1 - x0)
}
