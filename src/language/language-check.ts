/**
 * Tells whether a text is in one of the languages that a bundle speaks.
 *
 * Three tests: the script of the letters, language identification by n-grams, and function words.
 * Identification alone needs at least four words: names, loanwords and misspellings look like other
 * languages. Two words are enough with a function word of the language that they look like. The
 * thresholds were set on captions and parts of them; `bench/languages.ts` measures both errors.
 */
import { FunctionWords } from './function-words.js'
import { Ngrams } from './ngrams.js'
import { lettersOf, scriptsOf, unspacedWords } from './scripts.js'

/**
 * `none` is a text without an n-gram of any language, such as "xqzv wrtp", but also "pink outfit":
 * the tokenizer of the bundle has to tell. So it has where the text is `probably` in another
 * language, such as "ein hund", but also "red hat". `language` is null where it was not identified.
 */
export type Judgement =
  | { in: 'spoken' | 'none' }
  | { in: 'other'; language: string | null }
  | { in: 'probably'; language: string }

const SPOKEN: Judgement = { in: 'spoken' }
/** Share of the letters that have to be of other scripts. */
const FOREIGN_LETTERS = 0.5
/** Lead of the best other language (0 to 0.85) times the words less 2.5: three cannot reach it. */
const LEAD = 0.45
const WORDS_WITHOUT_WEIGHT = 2.5
const FEWEST_WORDS = 2
/** Lead of a language with a function word in the text, and how far it may be behind the best. */
const LEAD_WITH_FUNCTION_WORD = 0.15
const BEHIND_BEST = 0.15
const WORD = /(?<![\p{L}\p{M}\p{N}_])[\p{L}\p{M}]+(?:['’-][\p{L}\p{M}]+)*(?![\p{L}\p{M}\p{N}_])/gu
const ASCII = /^[\0-\x7f]*$/
/** Characters that are judged; the identification reads no more. */
const MAX_CHARS = 350

/** Codes of CLDR that the n-grams have under another name. */
const ALIASES: Readonly<Record<string, string>> = { nb: 'no', nn: 'no', fil: 'tl' }

export class LanguageCheck {
  readonly #ngrams = Ngrams.small
  /** Their positions among those of the n-grams; null if one of them is not there. */
  readonly #languages: readonly number[] | null
  readonly #functionWords: FunctionWords
  /** Letters of the spoken languages; null if one of them has no known script. */
  readonly #letters: RegExp | null
  readonly #isLatin: boolean

  /** @param spoken - BCP 47 tags; empty: every text is taken as spoken */
  constructor(spoken: readonly string[]) {
    const languages = spoken.map((tag) => this.#ngrams.languages.indexOf(codeOf(tag)))
    const known = languages.length > 0 && !languages.includes(-1)
    this.#languages = known ? languages : null
    this.#functionWords = new FunctionWords(known ? this.#ngrams.languages : [], languages)
    const scripts = spoken.map(scriptsOf)
    const written = scripts.length > 0 && scripts.every(({ length }) => length > 0)
    this.#letters = written ? lettersOf(scripts.flat()) : null
    this.#isLatin = scripts.flat().includes('Latn')
  }

  judge(text: string): Judgement {
    const start = text.slice(0, MAX_CHARS)
    const isAscii = ASCII.test(start)
    const words = start.match(WORD) ?? []
    const count = isAscii ? words.length : Math.max(words.length, unspacedWords(start))
    if (!(isAscii && this.#isLatin) && this.#isForeignScript(start))
      return { in: 'other', language: count < FEWEST_WORDS ? null : this.#best(start).language }
    if (this.#languages === null || count < FEWEST_WORDS) return SPOKEN
    const { language, score, scores } = this.#best(words.join(' '))
    if (language === null) return { in: 'none' }
    const spoken = Math.max(...this.#languages.map((at) => scores[at] as number))
    if ((score - spoken) * (count - WORDS_WITHOUT_WEIGHT) > LEAD) return { in: 'other', language }
    const enough = Math.max(spoken + LEAD_WITH_FUNCTION_WORD, score - BEHIND_BEST)
    const probable = score < enough ? null : this.#withFunctionWord(words, scores, enough)
    return probable === null ? SPOKEN : { in: 'probably', language: probable }
  }

  /** The likeliest language that scores enough and has one of the words as a function word. */
  #withFunctionWord(words: readonly string[], scores: Float64Array, enough: number): string | null {
    const [best] = words
      .flatMap((word) => this.#functionWords.of(word.toLowerCase()))
      .filter((at) => (scores[at] as number) >= enough)
      .sort((a, b) => (scores[b] as number) - (scores[a] as number))
    return best === undefined ? null : (this.#ngrams.languages[best] as string)
  }

  /** The most likely language; null where there is no evidence of any. */
  #best(text: string): { language: string | null; score: number; scores: Float64Array } {
    const scores = this.#ngrams.scoresOf(text)
    const score = scores.reduce((best, other) => Math.max(best, other))
    const language = this.#ngrams.languages[scores.indexOf(score)]
    return { language: score === 0 ? null : (language ?? null), score, scores }
  }

  #isForeignScript(text: string): boolean {
    if (this.#letters === null) return false
    const letters = text.match(/\p{L}/gu)?.length ?? 0
    const spoken = text.match(this.#letters)?.length ?? 0
    return letters - spoken > letters * FOREIGN_LETTERS
  }
}

/** The pattern of the BCP 47 tags that name languages: language, script and region. */
export const LANGUAGE_TAG = '^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$'

/** The language of a BCP 47 tag as the n-grams name it. */
export function codeOf(tag: string): string {
  const { language } = new Intl.Locale(tag)
  return ALIASES[language] ?? language
}
