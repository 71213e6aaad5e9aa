/**
 * Completes the normaliser of tokenizer.json: what the original library does to a text in code
 * becomes data of the file, so that the service and Python's tokenizers do it alike.
 */
import { BundleError } from '../model/bundle/bundle.js'
import { Tokenizer } from '../model/encoders/tokenizer.js'
import type { ForeignModel, TokenizerFile } from './foreign.js'

/** string.punctuation of Python. */
const PUNCTUATION = '[!-/:-@\\[-`{-~]'
/** The marks that ftfy's uncurl_quotes replaces. */
const SINGLE_QUOTES = '[\u02bc\u2018-\u201b]'
const DOUBLE_QUOTES = '[\u201c-\u201f]'
const TEXT_TOKENS = 512

const replace = (pattern: object, content: string): object => ({
  type: 'Replace',
  pattern,
  content,
})

/**
 * Adds what the tokenizer does not do yet, found by tokenising.
 * @throws BundleError when the service cannot read the tokenizer
 */
export function completeTokenizer(
  file: TokenizerFile,
  { cleaning, ending, notes }: ForeignModel['text'] & Pick<ForeignModel, 'notes'>,
): TokenizerFile {
  const complete: TokenizerFile = { ...file, truncation: null, padding: null }
  const isSame = (a: string, b: string): boolean =>
    String(idsOf(complete, a)) === String(idsOf(complete, b))
  const steps: object[] = []
  // Not tried: a vocabulary without quotation marks takes all for the same unknown token.
  if (cleaning.straightQuotes)
    steps.push(replace({ Regex: SINGLE_QUOTES }, "'"), replace({ Regex: DOUBLE_QUOTES }, '"'))
  if (cleaning.punctuation === 'spaced' && !isSame('a_red car', 'a red car'))
    steps.push(replace({ String: '_' }, ' '))
  if (cleaning.punctuation !== 'kept' && !isSame('a "red" car, now!', 'a red car now')) {
    steps.push(replace({ Regex: PUNCTUATION }, ''))
    notes.push('Its tokenizer keeps punctuation; the bundle removes it, as in training.')
  }
  if (cleaning.lowercase && !isSame('A RED Car', 'a red car')) {
    steps.push({ type: 'Lowercase' })
    notes.push('Its tokenizer keeps capitals; the bundle lowercases, as in training.')
  }
  if (cleaning.collapse && !isSame('  a  red\n car ', 'a red car'))
    steps.push(replace({ Regex: '\\s+' }, ' '), {
      type: 'Strip',
      strip_left: true,
      strip_right: true,
    })
  if (steps.length > 0) {
    const normalizers = file.normalizer == null ? steps : [...steps, file.normalizer]
    complete.normalizer = { type: 'Sequence', normalizers }
  }
  if (ending !== null) end(complete, ending)
  return complete
}

/** Makes texts end with a token, and not begin with another. */
function end(file: TokenizerFile, { last, never }: { last: string; never: string | null }): void {
  const lastId = tokenId(file, last)
  const neverId = never === null ? undefined : tokenId(file, never)
  if (lastId === undefined)
    throw new BundleError(`tokenizer.json has no token "${last}", with which every text ends.`)
  const ids = idsOf(file, 'a red car')
  if (ids.at(-1) === lastId && (neverId === undefined || ids[0] !== neverId)) return
  file.post_processor = {
    type: 'TemplateProcessing',
    single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: last, type_id: 0 } }],
    pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 0 } }],
    special_tokens: { [last]: { id: last, ids: [lastId], tokens: [last] } },
  }
}

function idsOf(file: TokenizerFile, text: string): number[] {
  return tokenizerOf(file, TEXT_TOKENS).encode(text)
}

/** @throws BundleError when the service cannot read the tokenizer */
export function tokenizerOf(file: TokenizerFile, maxTokens: number): Tokenizer {
  try {
    return new Tokenizer(Buffer.from(JSON.stringify(file)), maxTokens)
  } catch (error) {
    throw new BundleError(`tokenizer.json cannot be used: ${(error as Error).message}.`)
  }
}

export function tokenId(
  { added_tokens: added = [], model }: TokenizerFile,
  token: string,
): number | undefined {
  const special = added.find(({ content }) => content === token)
  if (special !== undefined) return special.id
  const { vocab = {} } = model
  if (!Array.isArray(vocab)) return Object.hasOwn(vocab, token) ? vocab[token] : undefined
  const at = vocab.findIndex(([piece]) => piece === token)
  return at < 0 ? undefined : at
}
