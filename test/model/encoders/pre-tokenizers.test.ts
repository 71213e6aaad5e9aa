/** Texts are split as the `tokenizers` of Python split them. */
import { describe, expect, it } from 'vitest'
import { Tokenizer } from '../../../src/model/encoders/tokenizer.js'
import { missingModules, runPython } from '../../support/python.js'

const MOST_TOKENS = 512

const texts = [
  'café – naïve façade',
  'cafe\u0301 and nai\u0308ve, decomposed',
  'Two dogs, 12 cats & 3½ birds… (in 2024!)',
  '"quoted" — it\'s “curly”, isn’t it?',
  '两只狗在海滩上奔跑。',
  'كلبان يركضان ١٢٣',
  'สุนัขสองตัววิ่ง',
  'ein_unter_strich und-bindestrich',
  'emoji 🐕🐕 and 👩‍👩‍👧 family',
  'white\u0085space\u00a0of\u3000many\ufeffkinds',
  'Ⅷ ② x² £5 $6 +7 <8> `9`',
  ',,start and end..',
]

const split = (regex: string, behavior: string, invert: boolean): object => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior,
  invert,
})

const preTokenizers: Record<string, object> = {
  Whitespace: { type: 'Whitespace' },
  WhitespaceSplit: { type: 'WhitespaceSplit' },
  'Digits together': { type: 'Digits', individual_digits: false },
  'Digits one by one': { type: 'Digits', individual_digits: true },
  BertPreTokenizer: { type: 'BertPreTokenizer' },
  ByteLevel: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  Metaspace: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
  ...Object.fromEntries(
    ['Isolated', 'Contiguous', 'Removed', 'MergedWithPrevious', 'MergedWithNext'].map(
      (behavior) => [`Punctuation ${behavior}`, { type: 'Punctuation', behavior }],
    ),
  ),
  'Split by what is between words': split('\\s+', 'Removed', false),
  'Split into words': split('\\p{L}+|\\p{N}', 'Removed', true),
  'Split into words and what is between them': split('\\p{L}+', 'Isolated', true),
  ...Object.fromEntries(
    ['Removed', 'Contiguous', 'MergedWithPrevious', 'MergedWithNext'].flatMap((behavior) => [
      [`Split by spaces, ${behavior}`, { ...split('', behavior, false), pattern: { String: ' ' } }],
      [`Split by marks, ${behavior}`, split('([-,.])|\\s', behavior, false)],
    ]),
  ),
  'Sequence of three': {
    type: 'Sequence',
    pretokenizers: [
      { type: 'WhitespaceSplit' },
      { type: 'Punctuation', behavior: 'Isolated' },
      { type: 'Digits', individual_digits: true },
    ],
  },
}

const missing = missingModules('tokenizers')

describe.skipIf(missing !== null)(
  `a text has the ids that Python gives it ${missing ?? ''}`,
  () => {
    const found = (): { file: string; ids: number[][] }[] =>
      runPython(new URL('pre_tokenizers.py', import.meta.url), {
        preTokenizers: Object.values(preTokenizers),
        texts,
      }) as { file: string; ids: number[][] }[]
    const all = missing === null ? found() : []

    it.each(Object.keys(preTokenizers).map((name, at) => [name, at] as const))('by %s', (_, at) => {
      const { file, ids } = all[at] as (typeof all)[number]
      const tokenizer = new Tokenizer(Buffer.from(file), MOST_TOKENS)
      expect(texts.map((text) => tokenizer.encode(text))).toEqual(ids)
    })
  },
)

const tokenizerWith = (preTokenizer: object, pieces: readonly string[]): Tokenizer => {
  const vocab = Object.fromEntries(['?', ...pieces].map((piece, at) => [piece, at]))
  const model = { type: 'WordLevel', vocab, unk_token: '?' }
  const others = { added_tokens: [], normalizer: null, post_processor: null, decoder: null }
  const file = JSON.stringify({ ...others, pre_tokenizer: preTokenizer, model })
  return new Tokenizer(Buffer.from(file), MOST_TOKENS)
}

it('takes letters with accents as parts of words', () => {
  const tokenizer = tokenizerWith({ type: 'Whitespace' }, ['café', '–', 'naïve'])
  expect(tokenizer.encode('café – naïve')).toEqual([1, 2, 3])
})

it('refuses a behavior that it does not read by its name', () => {
  expect(() => tokenizerWith(split('-', 'Contiguous', true), [])).toThrow(
    'its pre-tokenizer Split has the behavior Contiguous of an inverted pattern, which is not read',
  )
  expect(() => tokenizerWith({ type: 'Punctuation', behavior: 'Kept' }, [])).toThrow(
    'its pre-tokenizer Punctuation has the behavior Kept, which is not read',
  )
})
