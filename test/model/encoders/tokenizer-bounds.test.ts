/** The tokenizer against the library without its bounds. */
import { readFileSync } from 'node:fs'
import { Tokenizer as Library } from '@huggingface/tokenizers'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Tokenizer } from '../../../src/model/encoders/tokenizer.js'

const read = (path: string): Buffer =>
  readFileSync(new URL(`../../fixtures/${path}`, import.meta.url))

/** Pieces of many lengths, so that the longest match is not always the whole word. */
const PIECES =
  'a b c x ab abc bca ##a ##b ##c ##x ##ab ##bc ##abca 猫 😀 ##😀 é . , - dog ##ing un ##un'
function wordPieceFile(): Buffer {
  const {
    model,
    added_tokens: added,
    ...rest
  } = JSON.parse(read('tiny-bundle/tokenizer.json').toString()) as {
    model: { vocab: Record<string, number> }
    added_tokens: { content: string; id: number }[]
  }
  const names = [...added.map(({ content }) => content), ...PIECES.split(' ')]
  const vocab = Object.fromEntries(names.map((name, id) => [name, id]))
  return Buffer.from(JSON.stringify({ ...rest, added_tokens: added, model: { ...model, vocab } }))
}
const bytePairs = Buffer.from(
  JSON.stringify(
    (JSON.parse(read('learnt-tokenizer.json').toString()) as { tokenizer: object }).tokenizer,
  ),
)
const files = { WordPiece: wordPieceFile(), 'byte pairs': bytePairs }

const letter = fc.constantFrom(
  ...'aabbccxx.,-',
  ...[
    '猫',
    '😀',
    'é',
    'e\u0301',
    '\u0301',
    'Σ',
    'İ',
    '\ufeff',
    '\u200b',
    '\u0000',
    '\u001c',
    '\u00a0',
  ],
  ...['\ud83d', '\ude00', '\u3000', '\u0085', '[SEP]', '[UNK]', 'dog', 'ing', 'un'],
)
const space = fc.constantFrom(' ', '  ', '\n', '\t ', '\r\n')
const word = fc.oneof(
  { weight: 8, arbitrary: fc.array(letter, { maxLength: 12 }).map((letters) => letters.join('')) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom('a', 'abc', '😀', 'z', 'é'), fc.integer({ min: 90, max: 130 }), letter)
      .map(([start, count, end]) => start.repeat(count) + end),
  },
)
const text = fc
  .array(fc.tuple(word, space), { maxLength: 60 })
  .map((words) => words.flat().join(''))

describe.each(Object.entries(files))('a tokenizer of %s', (_kind, file) => {
  const library = new Library(JSON.parse(file.toString()) as object, {})

  // Texts of the generator have up to some 500 tokens, and more than the units of a first cut.
  it.each([4, 8, 64])('has the ids of the library, cut to %i', (maxTokens) => {
    const tokenizer = new Tokenizer(file, maxTokens)
    let short = 0
    let long = 0
    fc.assert(
      fc.property(text, (given) => {
        const { ids } = library.encode(given)
        if (ids.length <= maxTokens) short += 1
        else long += 1
        expect(tokenizer.encode(given)).toEqual(
          ids.length <= maxTokens ? ids : [...ids.slice(0, maxTokens - 1), ...ids.slice(-1)],
        )
      }),
      { numRuns: 1500 },
    )
    expect(Math.min(short, long)).toBeGreaterThan(20)
  })
})

describe('a tokenizer of WordPiece', () => {
  const tokenizer = new Tokenizer(files.WordPiece, 64)
  const hostile = {
    'words of 98 letters': `${'a'.repeat(98)} `.repeat(101),
    'unknown words of 98 letters': `${'x'.repeat(97)}z `.repeat(101),
    'ideographs without a space': '猫'.repeat(10_000),
    'one word': 'x'.repeat(10_000),
    'ordinary words': 'a dog on the beach '.repeat(520),
  }

  it.each(Object.entries(hostile))('takes little time for %s', (_name, given) => {
    const library = new Library(JSON.parse(files.WordPiece.toString()) as object, {})
    const ids = tokenizer.encode(given)
    expect(ids.slice(0, 63)).toEqual(library.encode(given).ids.slice(0, 63))
    const { user } = process.cpuUsage()
    for (let run = 0; run < 20; run += 1) tokenizer.encode(given)
    expect(process.cpuUsage({ user, system: 0 }).user / 20).toBeLessThan(25_000)
  })
})
