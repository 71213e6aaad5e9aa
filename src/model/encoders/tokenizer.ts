/** Texts to token ids, with the tokenizer of the bundle. */
import { Tokenizer as WordPieces, type TokenizerModel } from '@huggingface/tokenizers'
import { asInPython } from './pre-tokenizers.js'

/** White space that every normaliser keeps, unlike U+FEFF, separates words. */
const WORD = /[^ \t\n\r]+/g
/** A cut within a word of WordPiece changes the pieces of it and, by a final sigma, of another. */
const UNSURE_WORDS = 2
/** Units of text for each piece of a prefix that is cut within a word. */
const UNITS_PER_PIECE = 8
/** Units by which the longest piece of a vocabulary is looked up. */
const KEY_UNITS = 3

export class Tokenizer {
  readonly #pieces: WordPieces
  readonly #maxTokens: number
  /** Ids by which a prefix of a text has the same ids as the text, when it is cut within a word. */
  readonly #sureAbove: number

  /**
   * @param file - the bytes of `tokenizer.json`
   * @param maxTokens - maximum ids of a text, special tokens included
   */
  constructor(file: Buffer, maxTokens: number) {
    const read = JSON.parse(file.toString('utf8')) as { pre_tokenizer?: unknown }
    this.#pieces = new WordPieces({ ...read, pre_tokenizer: asInPython(read.pre_tokenizer) }, {})
    this.#maxTokens = maxTokens
    const { model } = this.#pieces
    this.#sureAbove =
      model.config.type === 'WordPiece' ? maxTokens + UNSURE_WORDS * maxChars(model) : Infinity
    boundWork(model, maxTokens, this.#sureAbove)
  }

  /**
   * The ids with special tokens; a text that is too long is cut before its last special token.
   *
   * Encodes only the start of a long text, and more of it until the tokens suffice: the work
   * depends on `maxTokens` and hardly on the length of the text.
   */
  encode(text: string): number[] {
    const most = this.#maxTokens
    const units = UNITS_PER_PIECE * this.#sureAbove
    for (let factor = 1; ; factor *= 4) {
      const words = firstWords(text, factor * most)
      const start = words.slice(0, factor * units)
      const { ids } = this.#pieces.encode(start)
      if (ids.length > (start.length < words.length ? this.#sureAbove : most))
        return [...ids.slice(0, most - 1), ...ids.slice(-1)]
      if (start.length === text.length) return ids
    }
  }
}

/** The text up to the end of its n-th word; the whole text if it has fewer. */
function firstWords(text: string, words: number): string {
  // A text this short has no more words.
  if (text.length < 2 * words) return text
  WORD.lastIndex = 0
  for (let word = 0; word < words; word += 1) if (!WORD.test(text)) return text
  return text.slice(0, WORD.lastIndex)
}

/**
 * Makes a model of the library stop once it has enough tokens, and spend time on a word that is
 * linear in its length. The first `maxTokens` tokens stay the same.
 *
 * @param sureAbove - see Tokenizer; Infinity unless the model is WordPiece
 */
function boundWork(model: TokenizerModel, maxTokens: number, sureAbove: number): void {
  const { tokens_to_ids: ids, unk_token: unknown, config } = model
  // Unknown words in a row become one token afterwards, so their number says nothing.
  if (model.fuse_unk) return
  const isWordPiece = config.type === 'WordPiece'
  const encode = isWordPiece ? wordPieces(model) : model.encode.bind(model)
  const enough = isWordPiece ? sureAbove : maxTokens
  // A piece covers at most as many units as the longest has, so the start of a word is enough.
  let longest = 1
  for (const piece of ids.keys()) longest = Math.max(longest, piece.length)
  const bounded = config.type === 'BPE' && typeof unknown === 'string'
  const maxLength = bounded ? maxTokens * longest : Infinity
  model.encode = (words) => {
    const pieces: string[] = []
    for (const word of words) {
      pieces.push(...encode([word.length > maxLength ? word.slice(0, maxLength) : word]))
      if (pieces.length > enough) break
    }
    return pieces
  }
}

function maxChars({ max_input_chars_per_word: most = 100 }: TokenizerModel): number {
  return most
}

/**
 * WordPiece by the longest match (Schuster and Nakajima 2012, as in BERT). The library tries all
 * prefixes of the rest of a word; this skips those longer than any piece with the same start.
 */
function wordPieces(model: TokenizerModel): (words: readonly string[]) => string[] {
  const { tokens_to_ids: ids, unk_token: unknown = '', config } = model
  const most = maxChars(model)
  const prefix = config.continuing_subword_prefix ?? ''
  /** Units of the longest piece by its start, for pieces at the start of a word and after it. */
  const longest = [new Map<string, number>(), new Map<string, number>()] as const
  for (const piece of ids.keys()) {
    for (const [lengths, units] of [
      [longest[0], piece],
      [longest[1], piece.startsWith(prefix) ? piece.slice(prefix.length) : ''],
    ] as const) {
      const key = units.slice(0, KEY_UNITS)
      lengths.set(key, Math.max(units.length, lengths.get(key) ?? 0))
    }
  }
  const piecesOf = (word: string): string[] => {
    if (word.length > most && [...word].length > most) return [unknown]
    const pieces: string[] = []
    for (let start = 0; start < word.length;) {
      const before = start === 0 ? '' : prefix
      const lengths = longest[start === 0 ? 0 : 1]
      const length = lengths.get(word.slice(start, start + KEY_UNITS)) ?? KEY_UNITS - 1
      let end = Math.min(word.length, start + length)
      while (end > start && !ids.has(before + word.slice(start, end))) end -= 1
      if (end === start) return [unknown]
      pieces.push(before + word.slice(start, end))
      start = end
    }
    return pieces
  }
  return (words) => words.flatMap(piecesOf)
}
