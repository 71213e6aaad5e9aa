/**
 * Rewrites the pre-tokenizers of a tokenizer.json which the library for JavaScript reads otherwise
 * than the `tokenizers` of Python and Rust do: as splits by a pattern, which both read alike.
 */

interface Pattern {
  readonly Regex?: unknown
  readonly String?: unknown
}

interface PreTokenizer {
  readonly type?: unknown
  readonly pretokenizers?: unknown
  readonly behavior?: unknown
  readonly individual_digits?: unknown
  readonly invert?: unknown
  readonly pattern?: Pattern
  readonly replacement?: unknown
  readonly split?: unknown
}

/** \w of Rust (UTS 18, annex C), with the characters of Join_Control. */
const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200c\\u200d'
const SPACE = '\\p{White_Space}'
const PUNCTUATION = '\\p{P}!-/:-@\\[-`{-~'
const MARK = `[${PUNCTUATION}]`

/** Pieces of a text by what becomes of the parts that match a pattern. */
const BY_BEHAVIOR: Readonly<Record<string, (part: string, other: string) => string>> = {
  isolated: (part, other) => `${other}+|${part}`,
  contiguous: (part, other) => `${other}+|${part}+`,
  removed: (_, other) => `${other}+`,
  mergedwithprevious: (part, other) => `${other}*${part}|${other}+`,
  mergedwithnext: (part, other) => `${part}${other}*|${other}+`,
}

/** @throws Error for a behavior that is not read */
export function asInPython(preTokenizer: unknown): unknown {
  if (typeof preTokenizer !== 'object' || preTokenizer === null) return preTokenizer
  const { type, pretokenizers, individual_digits: each }: PreTokenizer = preTokenizer
  const { split: isSplit, replacement: mark = '▁' }: PreTokenizer = preTokenizer
  if (type === 'Sequence' && Array.isArray(pretokenizers))
    return { ...preTokenizer, pretokenizers: pretokenizers.map(asInPython) }
  // The library's \w and \d are of ASCII, and its \s has U+FEFF and lacks U+0085.
  if (type === 'Whitespace') return piecesOf(`[${WORD}]+|[^${WORD}${SPACE}]+`)
  if (type === 'BertPreTokenizer') return piecesOf(`[^${SPACE}${PUNCTUATION}]+|${MARK}`)
  if (type === 'WhitespaceSplit') return piecesOf('\\P{White_Space}+')
  if (type === 'Digits') return piecesOf(each === true ? '\\p{N}|\\P{N}+' : '\\p{N}+|\\P{N}+')
  // It marks the words, and the library leaves them in one piece.
  if (type === 'Metaspace' && isSplit !== false)
    return { type: 'Sequence', pretokenizers: [preTokenizer, piecesOf(wordsAfter(mark))] }
  if (type === 'Punctuation') return piecesOf(byBehavior(preTokenizer, MARK))
  return type === 'Split' ? asPieces(preTokenizer) : preTokenizer
}

/** A split whose inverse the library knows, or that which the library lacks. */
function asPieces(split: PreTokenizer): object {
  const { pattern, behavior, invert } = split
  const { Regex: regex, String: text }: Pattern = pattern ?? {}
  // Parts that match and those between them are the same pieces either way round.
  if (behavior === 'Isolated') return { ...split, invert: false }
  if (invert === true && behavior === 'Removed') return split
  if (invert === true) throw notRead(split)
  const codes = typeof text === 'string' ? [...text].map(escaped).join('') : ''
  return piecesOf(byBehavior(split, `(?:${typeof regex === 'string' ? regex : codes})`))
}

function byBehavior(preTokenizer: PreTokenizer, part: string): string {
  const { behavior = 'Isolated' } = preTokenizer
  const pieces = typeof behavior === 'string' ? BY_BEHAVIOR[behavior.toLowerCase()] : undefined
  if (pieces === undefined) throw notRead(preTokenizer)
  return pieces(part, `(?:(?!${part})\\p{Any})`)
}

function notRead({ type, behavior, invert }: PreTokenizer): Error {
  const inverted = invert === true ? ' of an inverted pattern' : ''
  return new Error(
    `its pre-tokenizer ${String(type)} has the behavior ${String(behavior)}${inverted}, which is not read`,
  )
}

function wordsAfter(mark: unknown): string {
  const one = escaped(String(mark))
  return `${one}[^${one}]*|[^${one}]+`
}

/** The first character of a text, in a pattern. */
function escaped(text: string): string {
  return `\\u{${text.codePointAt(0)?.toString(16) ?? ''}}`
}

function piecesOf(pattern: string): object {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Removed', invert: true }
}
