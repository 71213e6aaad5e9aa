/** Invalid and unusual values: texts, numbers, JSON, ids, images. */
import fc, { type Arbitrary } from 'fast-check'

/** A valid PNG of one pixel. */
export const dot =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=='

const oddTexts = [
  '',
  ' ',
  '\u0000',
  '\ud800',
  'a\udfff',
  '\u202egod',
  '\ufeff',
  '\u2028',
  '👩‍👩‍👧',
  'שלום',
  'ﷺ',
  'e\u0301'.repeat(50),
  '%s%n',
  "' OR 1=1 --",
  '{{7*7}}',
  '../../etc/passwd',
  '..\\..\\x',
  '<script>alert(1)</script>',
  '__proto__',
  'constructor',
  'null',
  'NaN',
  '-1',
  '1e400',
  'http://169.254.169.254/',
  'https://localhost:1/a.jpg',
  'file:///etc/passwd',
  'data:,',
  'data:image/png;base64,',
  'data:text/html,x',
  'x'.repeat(2001),
  '\u0000'.repeat(300),
  'a'.repeat(70_000),
]
export const texts: Arbitrary<string> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom('a red square', 'dog', 'photo of a blue car', 'ein Hund'),
  },
  { weight: 3, arbitrary: fc.constantFrom(...oddTexts) },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 60 }) },
  { weight: 1, arbitrary: fc.string({ maxLength: 300 }) },
)

/** Few ids, so that requests share items and the store stays small. */
export const ids: Arbitrary<string> = fc.oneof(
  { weight: 6, arbitrary: fc.nat(99).map((number) => `item-${number}`) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      ...oddTexts,
      '.',
      '..',
      'a/b',
      '%2e%2e',
      'x'.repeat(256),
      'x'.repeat(257),
      '😀'.repeat(256),
    ),
  },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 8 }) },
)

/** Names of backups; few, since each uses disk space. */
export const names: Arbitrary<string> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('one', 'two') },
  { weight: 1, arbitrary: fc.constantFrom(...oddTexts, '.hidden', 'a/b', 'x'.repeat(101)) },
)

export const numbers: Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 20 }) },
  {
    weight: 2,
    arbitrary: fc.constantFrom<unknown>(
      0,
      -1,
      1001,
      0.5,
      1e308,
      -0,
      2 ** 53,
      '7',
      '1e3',
      '0x10',
      true,
      null,
      [3],
      {},
    ),
  },
  { weight: 1, arbitrary: fc.double() },
)

export const images: Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(dot, `data:image/png;base64,${dot}`) },
  { weight: 2, arbitrary: fc.nat(dot.length).map((length) => dot.slice(0, length)) },
  { weight: 2, arbitrary: texts },
  { weight: 1, arbitrary: fc.base64String({ maxLength: 200 }) },
)

export const payloads: Arbitrary<unknown> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.dictionary(fc.string({ maxLength: 8 }), fc.jsonValue({ maxDepth: 3 }), {
      maxKeys: 5,
    }),
  },
  { weight: 1, arbitrary: fc.jsonValue() },
  {
    weight: 1,
    arbitrary: fc.constantFrom<unknown>(
      { a: 'x'.repeat(70_000) },
      { a: '\ud800' },
      [],
      null,
      'text',
    ),
  },
)

/** JSON text that serialisers do not write. */
export const brokenJson: Arbitrary<string> = fc.constantFrom(
  '',
  '{',
  '}',
  '{"text": "dog"',
  '{"text": "dog",}',
  "{'text': 'dog'}",
  '{"text": dog}',
  '[',
  'nul',
  '"',
  '1e',
  '{"a":1}{"b":2}',
  '\ufeff{"text":"dog"}',
  '{"text": "dog", "text": "cat"}',
  '{"__proto__": {"a": 1}, "text": "dog"}',
  '{"constructor": {"prototype": {}}, "text": "dog"}',
  '{"text": "dog", "k": 1e400}',
  `{"text": "dog", "k": ${'9'.repeat(400)}}`,
  '{"text": "dog", "k": -0.1e-400}',
  '{"text": "\\ud800"}',
  '{"text": "\\u0000"}',
  '{"text": "a\u0001b"}',
  `${'['.repeat(20_000)}${']'.repeat(20_000)}`,
  `{"text": ${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}}`,
  `{"a${'\\u0061'.repeat(5000)}": 1}`,
)
