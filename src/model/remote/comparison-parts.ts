import type { Comparison } from './protocol.js'
import type { Pair } from '../models.js'

/** Tokens of one call; a body takes five times as much by default. */
const MOST_BYTES = 4 * 2 ** 20

/** `whole` in comparisons whose tokens take some mebibytes at most, in the order of the pairs. */
export function parted(whole: Comparison, mostBytes = MOST_BYTES): Comparison[] {
  const parts: Pair[][] = []
  let [texts, images] = [new Set<number>(), new Set<number>()]
  let bytes = Infinity
  for (const pair of whole.pairs) {
    const text = whole.texts[pair.text]?.textTokens.byteLength ?? 0
    const image = whole.imageTokens[pair.image]?.byteLength ?? 0
    bytes += (texts.has(pair.text) ? 0 : text) + (images.has(pair.image) ? 0 : image)
    if (bytes > mostBytes) {
      parts.push([])
      ;[texts, images, bytes] = [new Set(), new Set(), text + image]
    }
    texts.add(pair.text)
    images.add(pair.image)
    parts.at(-1)?.push(pair)
  }
  return parts.map((pairs) => part(whole, pairs))
}

/** The texts and images that `pairs` name, and the pairs by their rows among those. */
function part({ texts, imageTokens }: Comparison, pairs: readonly Pair[]): Comparison {
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

function rowsOf(rows: readonly number[]): Map<number, number> {
  return new Map([...new Set(rows)].map((row, place) => [row, place]))
}

function at<Value>(list: readonly Value[], row: number): Value {
  const value = list[row]
  if (value === undefined)
    throw new RangeError(`A pair names row ${row} of a list of ${list.length}.`)
  return value
}
