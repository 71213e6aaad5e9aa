/**
 * Tells whether a text is in one of the languages that a bundle speaks.
 *
 * Two tests: the script of the letters, and language identification by n-grams (`eld`). The second
 * needs at least four words: names, loanwords and misspellings look like other languages. The
 * thresholds were set on captions and parts of them; `bench/languages.ts` measures both errors.
 */
import { eld } from 'eld/small'
import { lettersOf, scriptsOf, unspacedWords } from './scripts.js'

/**
 * `none` is a text without an n-gram of any language, such as "xqzv wrtp", but also "pink outfit":
 * the tokenizer of the bundle has to tell. `language` is null where it was not identified.
 */
export type Judgement = { in: 'spoken' | 'none' } | { in: 'other'; language: string | null }

const SPOKEN: Judgement = { in: 'spoken' }
/** Share of the letters that have to be of other scripts. */
const FOREIGN_LETTERS = 0.5
/** Lead of the best other language (0 to 0.85) times the words less 2.5: three cannot reach it. */
const LEAD = 0.45
const WORDS_WITHOUT_WEIGHT = 2.5
const FEWEST_WORDS = 2
const WORD = /(?<![\p{L}\p{M}\p{N}_])[\p{L}\p{M}]+(?:['’-][\p{L}\p{M}]+)*(?![\p{L}\p{M}\p{N}_])/gu
const ASCII = /^[\0-\x7f]*$/
/** Characters that are judged; `eld` reads no more. */
const MAX_CHARS = 350

/** Codes of CLDR that `eld` has under another name. */
const ALIASES: Readonly<Record<string, string>> = { nb: 'no', nn: 'no', fil: 'tl' }
const identified = new Set(Object.values(eld.info().Languages))

export class LanguageCheck {
  /** As `eld` names them; null if it cannot identify one of them. */
  readonly #languages: readonly string[] | null
  /** Letters of the spoken languages; null if one of them has no known script. */
  readonly #letters: RegExp | null
  readonly #isLatin: boolean

  /** @param spoken - BCP 47 tags; empty: every text is taken as spoken */
  constructor(spoken: readonly string[]) {
    const languages = spoken.map(codeOf)
    const known = languages.length > 0 && languages.every((code) => identified.has(code))
    this.#languages = known ? languages : null
    const scripts = spoken.map(scriptsOf)
    const written = scripts.length > 0 && scripts.every(({ length }) => length > 0)
    this.#letters = written ? lettersOf(scripts.flat()) : null
    this.#isLatin = scripts.flat().includes('Latn')
  }

  judge(text: string): Judgement {
    const start = text.slice(0, MAX_CHARS)
    const words = start.match(WORD) ?? []
    const count = Math.max(words.length, unspacedWords(start))
    if (this.#isForeignScript(start))
      return { in: 'other', language: count < FEWEST_WORDS ? null : likeliest(start) }
    if (this.#languages === null || count < FEWEST_WORDS) return SPOKEN
    const scores = scoresOf(words.join(' '))
    const [language = null, best = 0] = bestOf(scores) ?? []
    if (language === null) return { in: 'none' }
    const spoken = Math.max(...this.#languages.map((code) => scores[code] ?? 0))
    return (best - spoken) * (count - WORDS_WITHOUT_WEIGHT) > LEAD
      ? { in: 'other', language }
      : SPOKEN
  }

  #isForeignScript(text: string): boolean {
    if (this.#letters === null || (this.#isLatin && ASCII.test(text))) return false
    const letters = text.match(/\p{L}/gu)?.length ?? 0
    const spoken = text.match(this.#letters)?.length ?? 0
    return letters - spoken > letters * FOREIGN_LETTERS
  }
}

/** The language of a BCP 47 tag as `eld` names it. */
export function codeOf(tag: string): string {
  const { language } = new Intl.Locale(tag)
  return ALIASES[language] ?? language
}

function scoresOf(text: string): Record<string, number> {
  return eld.detect(text).getScores()
}

function bestOf(scores: Record<string, number>): [language: string, score: number] | undefined {
  return Object.entries(scores).sort(([, a], [, b]) => b - a)[0]
}

function likeliest(text: string): string | null {
  return bestOf(scoresOf(text))?.[0] ?? null
}
