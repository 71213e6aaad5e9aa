/** Judges a text by its language and by its tokens: words of no language have many. */
import type { LanguageCheck } from './language-check.js'

export type TextJudgement =
  | { in: 'spoken' | 'none' }
  /** BCP 47; null where it was not identified. */
  | { in: 'other'; language: string | null }

/** Tokens of a word, on average, that no language and no name has: "zxqv" has four. */
const TOKENS_OF_NONSENSE = 2.5
/** A word, or a character that is in no word. */
const PIECE = /[\p{L}\p{M}]+|[^\s\p{L}\p{M}]/gu
/** Start and end of a text. */
const SPECIAL_TOKENS = 2

/**
 * Whether the text is in one of the languages of the check, in another one, or in none.
 *
 * @param tokenCount - by a tokenizer for the languages of the check, with start and end
 */
export function judgeText(check: LanguageCheck, text: string, tokenCount: number): TextJudgement {
  const judgement = check.judge(text)
  const tokens = tokenCount - SPECIAL_TOKENS
  switch (judgement.in) {
    case 'other':
      return judgement
    case 'probably':
      return hasRareWord(text, tokens) ? { ...judgement, in: 'other' } : { in: 'spoken' }
    case 'none':
      return { in: isNonsense(text, tokens) ? 'none' : 'spoken' }
    case 'spoken':
      return { in: 'spoken' }
  }
}

/** Whether a word has several tokens, as words have that the bundle was not trained on. */
function hasRareWord(text: string, tokens: number): boolean {
  return tokens > (text.match(PIECE)?.length ?? 0)
}

/** A rare word has several tokens, too; a text of such words alone, of no language, is nonsense. */
function isNonsense(text: string, tokens: number): boolean {
  const words = text.trim().split(/\s+/).length
  return tokens >= words * TOKENS_OF_NONSENSE
}
