/**
 * Language identification by the n-grams of bytes of `eld` (github.com/nitotm), with its scores.
 *
 * Its npm package builds 80,000 objects when it is loaded. Here they are one file of numbers, in
 * little-endian order:
 *
 * | part                | bytes      |                                                          |
 * |---------------------|------------|----------------------------------------------------------|
 * | head                | 4 × length | a line of JSON, filled up with spaces                    |
 * | n-grams             | 4 × n      | up to 4 bytes, the first one highest; sorted by group    |
 * | languages of each   | n          | how many                                                 |
 * | languages, scores   | m + m      | position in the head; score less `least`                 |
 *
 * The four groups are n-grams inside a word, at its start, at its end, and whole words.
 */
import { readFileSync } from 'node:fs'

export interface NgramsHead {
  /** ISO 639-1 */
  languages: readonly string[]
  /** Number of n-grams of each group. */
  groups: readonly number[]
  least: number
}

/** Maximum length of an n-gram, and the distance between two, in bytes. */
const LENGTH = 4
const STRIDE = 3
const START = 1
const END = 2
/** The rest of a longer word is not read. */
const MAX_WORD = 70
/** A text is cut at the first space after this length, at the latest some bytes later. */
const CUT_AFTER = 350
const MAX_TEXT = 380
/** The score that is halfway between 0 and 1. */
const HALF = 25

const SPACE = 0x20
const NEWLINE = 0x0a
/** Letters, and apostrophes before and between them, or at the end of the text. */
const WORD = /(?:['`’]*\p{L}|['`’]+$)+/gu

let opened: Ngrams | undefined

export class Ngrams {
  readonly languages: readonly string[]
  readonly #least: number
  /** Where each group begins, and the end of the last. */
  readonly #groups: readonly number[]
  readonly #keys: Uint32Array
  /** Where the languages of each n-gram begin, and the end of the last. */
  readonly #starts: Uint32Array
  readonly #ofLanguage: Uint8Array
  readonly #scores: Uint8Array

  constructor(file: Uint8Array) {
    const bytes = Uint8Array.from(file)
    const headEnd = bytes.indexOf(NEWLINE) + 1
    const head = JSON.parse(Buffer.from(bytes.subarray(0, headEnd)).toString()) as NgramsHead
    this.languages = head.languages
    this.#least = head.least
    let count = 0
    this.#groups = [0, ...head.groups.map((size) => (count += size))]
    this.#keys = new Uint32Array(bytes.buffer, headEnd, count)
    const sizes = bytes.subarray(headEnd + 4 * count, headEnd + 5 * count)
    this.#starts = new Uint32Array(count + 1)
    sizes.forEach((size, at) => (this.#starts[at + 1] = (this.#starts[at] as number) + size))
    const pairs = bytes.subarray(headEnd + 5 * count)
    this.#ofLanguage = pairs.subarray(0, pairs.length / 2)
    this.#scores = pairs.subarray(pairs.length / 2)
  }

  /** Read at the first use. */
  static get small(): Ngrams {
    opened ??= new Ngrams(readFileSync(new URL('../../vendor/eld/ngrams.bin', import.meta.url)))
    return opened
  }

  /** Scores from 0 to 1 in the order of `languages`; 0 for a language without evidence. */
  scoresOf(text: string): Float64Array {
    const { keys, count } = this.#ngramsOf(text)
    const sums = new Float64Array(this.languages.length)
    for (const at of keys) {
      const end = this.#starts[at + 1] as number
      for (let pair = this.#starts[at] as number; pair < end; pair += 1) {
        const language = this.#ofLanguage[pair] as number
        sums[language] = (sums[language] as number) + (this.#scores[pair] as number) + this.#least
      }
    }
    return sums.map((sum) => (sum === 0 ? 0 : sum / count / (sum / count + HALF)))
  }

  /** Positions of the n-grams that are known, and the number of different n-grams. */
  #ngramsOf(text: string): { keys: Set<number>; count: number } {
    const bytes = startOf(text)
    const keys = new Set<number>()
    const unknown = new Set<number>()
    const add = (from: number, length: number, edges: number): void => {
      let key = 0
      for (let i = 0; i < LENGTH; i += 1)
        key = key * 256 + (i < length ? (bytes[from + i] as number) : 0)
      const at = this.#find(key, edges)
      if (at === -1) unknown.add(key * LENGTH + edges)
      else keys.add(at)
    }
    let start = 0
    while (start < bytes.length) {
      const space = bytes.indexOf(SPACE, start)
      const end = space === -1 ? bytes.length : space
      const length = Math.min(end - start, MAX_WORD)
      let at = 0
      for (; at + LENGTH < length; at += STRIDE) add(start + at, LENGTH, at === 0 ? START : 0)
      const edges = at === 0 ? START | END : END
      // The end of a word that is cut is no n-gram of any language.
      if (end - start > MAX_WORD) unknown.add(-end)
      else add(start + Math.max(0, length - LENGTH), Math.min(length, LENGTH), edges)
      start = end + 1
    }
    return { keys, count: keys.size + unknown.size }
  }

  /** @returns -1 if it is not known */
  #find(key: number, group: number): number {
    let low = this.#groups[group] as number
    let high = (this.#groups[group + 1] as number) - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const found = this.#keys[middle] as number
      if (found === key) return middle
      if (found < key) low = middle + 1
      else high = middle - 1
    }
    return -1
  }
}

/** The bytes of the words that are read, with a space between them. */
function startOf(text: string): Uint8Array {
  const words = text.match(WORD) ?? []
  const bytes = Buffer.from(words.join(' ').toLowerCase())
  if (bytes.length <= CUT_AFTER) return bytes
  let end = MAX_TEXT + 1
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end += 1
  const space = bytes.indexOf(SPACE, CUT_AFTER + 1)
  return bytes.subarray(0, space === -1 ? end : Math.min(space, end))
}
