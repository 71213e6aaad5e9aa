import { describe, expect, it } from 'vitest'
import { parseFilter } from '../../src/filter/parse.js'
import { testOf } from '../../src/filter/matches.js'

const payload = {
  album: 'sea',
  year: 2019,
  score: 0,
  shared: false,
  tags: ['beach', 7, true],
  nothing: null,
  empty: [],
  camera: { maker: 'Ricoh', lens: { length: 28 } },
  '': 'nameless',
}

const holds = (filter: object): boolean => testOf(parseFilter(filter))(payload)
const must = (condition: object): boolean => holds({ must: [condition] })

describe('a condition', () => {
  it.each([
    [{ key: 'album', match: 'sea' }, true],
    [{ key: 'album', match: 'se' }, false],
    [{ key: 'album', match: ['land', 'sea'] }, true],
    [{ key: 'year', match: 2019 }, true],
    [{ key: 'year', match: 2019.0 }, true],
    [{ key: 'year', match: '2019' }, false],
    [{ key: 'score', match: -0 }, true],
    [{ key: 'score', match: false }, false],
    [{ key: 'shared', match: false }, true],
    [{ key: 'shared', match: 0 }, false],
    [{ key: 'nothing', match: ['null', 0, false, ''] }, false],
    [{ key: 'missing', match: ['undefined', ''] }, false],
    [{ key: 'tags', match: 'beach' }, true],
    [{ key: 'tags', match: 7 }, true],
    [{ key: 'tags', match: '7' }, false],
    [{ key: 'tags.0', match: 'beach' }, false],
    [{ key: 'empty', match: '' }, false],
    [{ key: 'camera.maker', match: 'Ricoh' }, true],
    [{ key: 'camera.lens.length', match: 28 }, true],
    [{ key: 'camera', match: 'Ricoh' }, false],
    [{ key: 'album.length', match: 3 }, false],
    [{ key: 'constructor.name', match: 'Object' }, false],
    [{ key: 'constructor', exists: true }, false],
    [{ key: 'album', exists: true }, true],
    [{ key: 'empty', exists: true }, true],
    [{ key: 'nothing', exists: true }, false],
    [{ key: 'nothing', exists: false }, true],
    [{ key: 'missing', exists: false }, true],
    [{ key: 'camera.lens', exists: true }, true],
    [{ key: 'year', range: { gt: 2018, lt: 2020 } }, true],
    [{ key: 'year', range: { gt: 2019 } }, false],
    [{ key: 'year', range: { gte: 2019 } }, true],
    [{ key: 'year', range: { lt: 2019 } }, false],
    [{ key: 'year', range: { lte: 2019 } }, true],
    [{ key: 'year', range: { gte: '2000' } }, false],
    [{ key: 'album', range: { gte: 'sea', lt: 'seb' } }, true],
    [{ key: 'album', range: { gt: 0 } }, false],
    [{ key: 'tags', range: { gt: 0 } }, false],
    [{ key: 'nothing', range: { gte: 0 } }, false],
    [{ key: 'shared', range: { lt: 1 } }, false],
  ])('%j holds: %s', (condition, expected) => {
    expect(must(condition)).toBe(expected)
    expect(holds({ must_not: [condition] })).toBe(!expected)
    expect(holds({ should: [condition] })).toBe(expected)
    expect(must({ must: [condition] })).toBe(expected)
  })

  it('orders texts by code points, as UTF-8 does, not by UTF-16', () => {
    const emoji = testOf(parseFilter({ must: [{ key: 'a', range: { gt: '\uffee' } }] }))
    expect(emoji({ a: '😀' })).toBe(true)
    expect('😀' > '\uffee').toBe(false)
  })
})

describe('a filter', () => {
  const [yes, no] = [
    { key: 'album', exists: true },
    { key: 'missing', exists: true },
  ]

  it.each([
    [{}, true],
    [{ must: [], should: [], must_not: [] }, true],
    [{ must: [yes, yes] }, true],
    [{ must: [yes, no] }, false],
    [{ should: [no, yes] }, true],
    [{ should: [no, no] }, false],
    [{ must_not: [no, no] }, true],
    [{ must_not: [no, yes] }, false],
    [{ must: [yes], should: [no] }, false],
    [{ must: [yes], should: [yes], must_not: [no] }, true],
    [{ must_not: [{ should: [no, { must: [yes, no] }] }] }, true],
  ])('%j holds: %s', (filter, expected) => {
    expect(holds(filter)).toBe(expected)
  })

  it('treats an item without payload as an empty payload', () => {
    const test = (filter: object): boolean => testOf(parseFilter(filter))(null)
    expect([
      test({}),
      test({ must: [yes] }),
      test({ must_not: [yes] }),
      test({ must: [{ key: 'a', exists: false }] }),
    ]).toEqual([true, false, true, true])
  })
})

describe('a malformed filter is refused with its place', () => {
  const condition = { key: 'a', exists: true }
  const deep = (levels: number): object =>
    levels === 1 ? { must: [condition] } : { must: [deep(levels - 1)] }

  it.each([
    [null, 'filter is null; expected an object with must, should, must_not'],
    [[], 'filter is an empty list; expected an object'],
    ['album', 'filter is "album"; expected an object'],
    [{ musst: [] }, 'filter has "musst"; expected an object with must, should, must_not'],
    [{ must: {} }, 'filter.must is an empty object; expected a list of conditions'],
    [
      { must: [7] },
      'filter.must[0] is 7; expected an object with key and one of match, range, exists, or a filter',
    ],
    [{ must: [{}] }, 'filter.must[0] is an empty object; expected'],
    [{ must: [{ key: 'a' }] }, 'filter.must[0] is an object with key; expected'],
    [{ must: [{ match: 'a' }] }, 'filter.must[0] is an object with match; expected'],
    [
      { must: [{ ...condition, match: 'a' }] },
      'filter.must[0] is an object with key, exists, match; expected',
    ],
    [
      { must: [{ ...condition, must: [] }] },
      'filter.must[0] is an object with key, exists, must; expected',
    ],
    [{ must: [{ ...condition, value: 1 }] }, 'filter.must[0] has "value"; expected'],
    [
      { should: [condition, { must: [{ key: '', exists: true }] }] },
      'filter.should[1].must[0].key is ""; expected names',
    ],
    [{ must: [{ key: 'a..b', exists: true }] }, 'key is "a..b"; expected'],
    [{ must: [{ key: 'a'.repeat(257), exists: true }] }, '(259 characters); expected names'],
    [{ must: [{ key: 7, exists: true }] }, 'key is 7; expected'],
    [{ must: [{ key: 'a', match: null }] }, 'filter.must[0].match is null; expected a text'],
    [{ must: [{ key: 'a', match: [] }] }, 'match is an empty list; expected'],
    [{ must: [{ key: 'a', match: [1, {}] }] }, 'match[1] is an empty object; expected'],
    [{ must: [{ key: 'a', match: Infinity }] }, 'match is Infinity; expected'],
    [
      { must: [{ key: 'a', match: 'x'.repeat(1025) }] },
      '(1027 characters); expected a text of at most 1024 characters',
    ],
    [
      { must: [{ key: 'a', range: {} }] },
      'range is an empty object; expected one or more of gt, gte, lt, lte',
    ],
    [{ must: [{ key: 'a', range: { min: 1 } }] }, 'range has "min"; expected'],
    [
      { must: [{ key: 'a', range: { gt: 1, lt: 'z' } }] },
      'range is an object with gt, lt; expected',
    ],
    [{ must: [{ key: 'a', range: { gt: true } }] }, 'range.gt is true; expected'],
    [{ must: [{ key: 'a', range: 7 }] }, 'range is 7; expected'],
    [{ must: [{ key: 'a', exists: 'true' }] }, 'exists is "true"; expected true or false'],
    [
      { must: JSON.parse('['.repeat(50_000) + ']'.repeat(50_000)) as unknown },
      'filter.must[0] is a list of 1; expected',
    ],
    [deep(9), 'is a filter 9 levels deep; expected at most 8'],
    [
      { must: Array.from({ length: 101 }, () => condition) },
      'filter has more than 100 conditions; expected at most that',
    ],
    [
      {
        must: Array.from({ length: 11 }, () => ({
          must: Array.from({ length: 9 }, () => condition),
        })),
      },
      'more than 100 conditions',
    ],
    [
      {
        must: [600, 401].map((length) => ({
          key: 'a',
          match: Array.from({ length }, (_, at) => at),
        })),
      },
      'more than 1000 values',
    ],
  ])('in case %#', (filter, sentence) => {
    const parse = (): unknown => parseFilter(filter)
    expect(parse).toThrow(sentence)
    expect(parse).toThrow(expect.objectContaining({ code: 'invalid_request' }) as Error)
  })

  it('accepts a filter at the limits', () => {
    expect(() => parseFilter(deep(8))).not.toThrow()
    expect(() => parseFilter({ must: Array.from({ length: 100 }, () => condition) })).not.toThrow()
    expect(() =>
      parseFilter({ must: [{ key: 'a', match: Array.from({ length: 1000 }, (_, at) => at) }] }),
    ).not.toThrow()
  })
})
