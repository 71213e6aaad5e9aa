/** Texts and images to compare, and the pairs of them. */
import type { EncodedText, Pair } from '../models.js'

/** Pairs name their text and image by row. */
export interface Comparison {
  texts: readonly EncodedText[]
  imageTokens: readonly Int8Array[]
  pairs: readonly Pair[]
}

export interface ComparisonLimits {
  /** Pairs of one part; no limit by default. */
  pairs?: number
  /** Bytes of the tokens of one part; a part has one pair at least. No limit by default. */
  bytes?: number
}

/**
 * Splits a comparison in the order of its pairs; each part holds only the texts and images that its
 * pairs name.
 * @throws RangeError for a pair whose row does not exist
 */
export function splitComparison(whole: Comparison, limits: ComparisonLimits): Comparison[] {
  const { pairs: maxPairs = Infinity, bytes: maxBytes = Infinity } = limits
  const parts: Pair[][] = []
  let [texts, images] = [new Set<number>(), new Set<number>()]
  let bytes = 0
  for (const pair of whole.pairs) {
    const text = whole.texts[pair.text]?.textTokens.byteLength ?? 0
    const image = whole.imageTokens[pair.image]?.byteLength ?? 0
    bytes += (texts.has(pair.text) ? 0 : text) + (images.has(pair.image) ? 0 : image)
    const part = parts.at(-1)
    if (part === undefined || part.length >= maxPairs || bytes > maxBytes) {
      parts.push([pair])
      ;[texts, images, bytes] = [new Set(), new Set(), text + image]
    } else part.push(pair)
    texts.add(pair.text)
    images.add(pair.image)
  }
  return parts.map((pairs) => partOf(whole, pairs))
}

function partOf({ texts, imageTokens }: Comparison, pairs: readonly Pair[]): Comparison {
  const textRows = rowsOf(pairs.map(({ text }) => text))
  const imageRows = rowsOf(pairs.map(({ image }) => image))
  return {
    texts: [...textRows.keys()].map((row) => at(texts, row)),
    imageTokens: [...imageRows.keys()].map((row) => at(imageTokens, row)),
    pairs: pairs.map(({ text, image, similarity }) => ({
      text: textRows.get(text) ?? 0,
      image: imageRows.get(image) ?? 0,
      similarity,
    })),
  }
}

/** Each different row of the whole with its row in the part. */
function rowsOf(rows: readonly number[]): Map<number, number> {
  return new Map([...new Set(rows)].map((row, place) => [row, place]))
}

function at<Value>(list: readonly Value[], row: number): Value {
  const value = list[row]
  if (value === undefined)
    throw new RangeError(`A pair names row ${row} of a list of ${list.length}.`)
  return value
}
