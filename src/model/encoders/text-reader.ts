/** Chooses a text encoder of the bundle for each text by its language, and tokenizes the text. */
import { mapInSlices } from '../../async/slices.js'
import { codeOf, LanguageCheck } from '../../language/language-check.js'
import { judgeText } from '../../language/text-judgement.js'
import { textEncodersOf, type Bundle } from '../bundle/bundle.js'
import { readBundleFile } from '../bundle/bundle-file.js'
import { Tokenizer } from './tokenizer.js'

/** Identification of a language needs more words. */
const MOST_WORDS_OF_A_SHORT_TEXT = 3
const WORD = /[\p{L}\p{M}]+(?:['’-][\p{L}\p{M}]+)*/gu

export interface ReadText {
  /** Position among the text encoders of the bundle. */
  encoder: number
  /** Special tokens included. */
  tokenIds: readonly number[]
}

/** A text encoder's tokenizer and languages. */
class Reader {
  readonly codes: readonly string[]
  readonly #encoder: number
  readonly #tokenizer: Tokenizer
  readonly #languages: readonly string[]
  #check: LanguageCheck | null = null

  /** @param encoder - its position among the text encoders of the bundle */
  constructor(encoder: number, tokenizer: Tokenizer, languages: readonly string[]) {
    this.codes = languages.map(codeOf)
    this.#encoder = encoder
    this.#tokenizer = tokenizer
    this.#languages = languages
  }

  read(text: string): ReadText {
    return { encoder: this.#encoder, tokenIds: this.#tokenizer.encode(text) }
  }

  /** Made when it is needed: a bundle with one text encoder never judges. */
  get check(): LanguageCheck {
    return (this.#check ??= new LanguageCheck(this.#languages))
  }
}

export class TextReader {
  readonly #first: Reader
  readonly #others: readonly Reader[]

  private constructor([first, ...others]: readonly [Reader, ...Reader[]]) {
    this.#first = first
    this.#others = others
  }

  /** @throws BundleError for a tokenizer that cannot be read */
  static async open(bundle: Bundle): Promise<TextReader> {
    const readers = textEncodersOf(bundle.manifest).map(
      async ({ tokenizer, max_tokens: most, languages }, encoder) =>
        new Reader(
          encoder,
          new Tokenizer(await readBundleFile(bundle, tokenizer), most),
          languages,
        ),
    )
    return new TextReader((await Promise.all(readers)) as [Reader, ...Reader[]])
  }

  /**
   * Each text by the encoder for its language, which is identified if it is not given. The first
   * encoder reads what no other understands.
   *
   * @param language - of all texts, BCP 47
   * @throws the reason of an aborted signal
   */
  readAll(
    texts: readonly string[],
    language: string | undefined,
    signal?: AbortSignal,
  ): Promise<ReadText[]> {
    return mapInSlices(texts, (text) => this.#read(text, language), signal)
  }

  #read(text: string, language: string | undefined): ReadText {
    const own = this.#first.read(text)
    if (this.#others.length === 0) return own
    return this.#readByOther(text, own.tokenIds.length, language) ?? own
  }

  #readByOther(text: string, tokenCount: number, named: string | undefined): ReadText | undefined {
    const readFor = (language: string): ReadText | undefined =>
      this.#others.find(({ codes }) => codes.includes(codeOf(language)))?.read(text)
    if (named !== undefined)
      return this.#first.codes.includes(codeOf(named)) ? undefined : readFor(named)
    const judged = judgeText(this.#first.check, text, tokenCount)
    if (judged.in !== 'other') return this.#readInFewerTokens(text, tokenCount)
    if (judged.language !== null) return readFor(judged.language)
    // One word in a script of its own, such as "狗", is in no identified language.
    return this.#others.find(({ check }) => check.judge(text).in === 'spoken')?.read(text)
  }

  /**
   * A short text by the encoder whose tokenizer knows its words better than the first, which cuts
   * them into more tokens: "hund" is two for English and one for German.
   */
  #readInFewerTokens(text: string, tokenCount: number): ReadText | undefined {
    if ((text.match(WORD)?.length ?? 0) > MOST_WORDS_OF_A_SHORT_TEXT) return undefined
    const readings = this.#others.map((reader) => reader.read(text))
    const fewest = Math.min(...readings.map(({ tokenIds }) => tokenIds.length))
    return readings.find(({ tokenIds: { length } }) => length === fewest && length < tokenCount)
  }
}
