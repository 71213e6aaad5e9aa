/**
 * Function words of languages ("ein", "avec", "một"), which tell the language of a text of two
 * words: names and loanwords have few of them. The lists are those of stopwords-iso.
 */
import { createRequire } from 'node:module'

/** Words that names and dishes have in them, too: "rio de janeiro", "coq au vin", "el paso". */
const IN_NAMES =
  'de da di do du des del della dell alla dos das la le les el los las il lo al au aux à a y e et von van der ' +
  "den und con mi su es que c'est san si no se uno boa bo taj allen notre são"
/** English words for what images show that are function words elsewhere: "hat", "sit". */
const IN_CAPTIONS =
  'air ant asian bad bald bank bar bare bat bent bin bout bra car care cat china design dice dig dine dock doe dog door dove ' +
  'fall fan final fun gin hat hay hit kit lies link lite local logo lot mac mad male mat mens met mitt multiple nice oar pad ' +
  'pan pet pie pole polo post pot pour press pro pure rag sale sea sell sex sit son sons sort start store suit sun super tag ' +
  'tan tarp tie tied ties toe total unique unit vase vat wake war wart'

const AMBIGUOUS = `${IN_NAMES} ${IN_CAPTIONS}`.split(' ')

/** The English list has the codes of countries too: "un", "um" and "na" are no English words. */
const ENGLISH_OF_TWO_LETTERS = new Set(
  'am an as at be by do go he if in is it me my no of oh ok on or so to up us we'.split(' '),
)

export class FunctionWords {
  /** Word → positions of its languages. */
  readonly #languages = new Map<string, number[]>()

  /**
   * @param languages - codes of ISO 639-1; those without a list have no words
   * @param spoken - positions among them. A word of one of these is left out
   */
  constructor(languages: readonly string[], spoken: readonly number[]) {
    const lists = createRequire(import.meta.url)('stopwords-iso') as Record<string, string[]>
    const wordsOf = (at: number): string[] => {
      const words = lists[languages[at] as string] ?? []
      return languages[at] === 'en'
        ? words.filter((word) => word.length !== 2 || ENGLISH_OF_TWO_LETTERS.has(word))
        : words
    }
    const excluded = new Set([...AMBIGUOUS, ...spoken.flatMap(wordsOf)])
    for (const at of languages.keys())
      for (const word of wordsOf(at))
        if (!excluded.has(word)) this.#languages.set(word, [...this.of(word), at])
  }

  /** Positions of the languages that have the word. @param word - in lower case */
  of(word: string): readonly number[] {
    return this.#languages.get(word) ?? []
  }
}
