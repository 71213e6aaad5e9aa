/** Texts to token ids, with the tokenizer of the bundle. */
import { Tokenizer as WordPieces } from '@huggingface/tokenizers'

export class Tokenizer {
  readonly #pieces: WordPieces
  readonly #maxTokens: number

  /**
   * @param file - the bytes of `tokenizer.json`
   * @param maxTokens - maximum ids of a text, special tokens included
   */
  constructor(file: Buffer, maxTokens: number) {
    this.#pieces = new WordPieces(JSON.parse(file.toString('utf8')) as object, {})
    this.#maxTokens = maxTokens
  }

  /** The ids with special tokens; a text that is too long is cut before its last special token. */
  encode(text: string): number[] {
    const { ids } = this.#pieces.encode(text)
    return ids.length <= this.#maxTokens
      ? ids
      : [...ids.slice(0, this.#maxTokens - 1), ...ids.slice(-1)]
  }
}
