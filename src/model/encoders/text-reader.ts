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
  readonly tokenizer: Tokenizer
  readonly codes: readonly string[]
  readonly #languages: readonly string[]
  #check: LanguageCheck | null = null

  constructor(tokenizer: Tokenizer, languages: readonly string[]) {
    this.tokenizer = tokenizer
    this.codes = languages.map(codeOf)
    this.#languages = languages
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
      async ({ tokenizer, max_tokens: most, languages }) =>
        new Reader(new Tokenizer(await readBundleFile(bundle, tokenizer), most), languages),
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
    const own = this.#first.tokenizer.encode(text)
    const other = this.#others.length === 0 ? undefined : this.#otherFor(text, own.length, language)
    return other === undefined
      ? { encoder: 0, tokenIds: own }
      : { encoder: this.#others.indexOf(other) + 1, tokenIds: other.tokenizer.encode(text) }
  }

  #otherFor(text: string, tokenCount: number, named: string | undefined): Reader | undefined {
    const speaking = (code: string): Reader | undefined =>
      this.#others.find((reader) => reader.codes.includes(code))
    if (named !== undefined) {
      const code = codeOf(named)
      return this.#first.codes.includes(code) ? undefined : speaking(code)
    }
    const judged = judgeText(this.#first.check, text, tokenCount)
    if (judged.in !== 'other') return this.#knowing(text, tokenCount)
    if (judged.language !== null) return speaking(codeOf(judged.language))
    // One word in a script of its own, such as "狗", is in no identified language.
    return this.#others.find((reader) => reader.check.judge(text).in === 'spoken')
  }

  /**
   * The encoder whose tokenizer knows the words of a short text better than the first, which cuts
   * them into more tokens: "hund" is two for English and one for German.
   */
  #knowing(text: string, tokenCount: number): Reader | undefined {
    if ((text.match(WORD)?.length ?? 0) > MOST_WORDS_OF_A_SHORT_TEXT) return undefined
    const counts = this.#others.map(({ tokenizer }) => tokenizer.encode(text).length)
    const fewest = Math.min(...counts)
    return fewest < tokenCount ? this.#others[counts.indexOf(fewest)] : undefined
  }
}
