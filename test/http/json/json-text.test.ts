/**
 * The scanner against JSON.parse: values that were written without a name twice are read the same,
 * others are refused.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { JsonTextError, parsedJsonText } from '../../../src/http/json/json-text.js'

/**
 * Any JSON value whose numbers are doubles, written with spaces of any kind and with any letters
 * escaped.
 */
const value = fc.jsonValue({ maxDepth: 5 })
const space = fc.constantFrom('', ' ', '\n\t', '\r\n ')
const seed = fc.nat()

/** Names in a value of JSON.parse: the slow, obvious count. */
function namesIn(parsed: unknown): number {
  if (typeof parsed !== 'object' || parsed === null) return 0
  const inner = Object.values(parsed).reduce((sum: number, one) => sum + namesIn(one), 0)
  return inner + (Array.isArray(parsed) ? 0 : Object.keys(parsed).length)
}

/** A tree that is written as it stands, so an object of it may have a name twice. */
type Tree = string | number | boolean | null | { list: Tree[] } | { object: [string, Tree][] }

const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.boolean(),
      fc.constant(null),
    ),
    fc.record({ list: fc.array(tie('tree'), { maxLength: 3 }) }),
    fc.record({
      object: fc.array(
        fc.tuple(fc.constantFrom('a', 'b', '"', '\\', 'é', 'a:', '{', ''), tie('tree')),
        { maxLength: 3 },
      ),
    }),
  ),
}))

/** Escapes every letter of a name as \uXXXX where the seed says so. */
function written(given: Tree, gap: string, escapes: number): string {
  const quoted = (text: string): string => {
    if (escapes % 3 !== 0) return JSON.stringify(text)
    return `"${[...Array(text.length).keys()].map((at) => `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`).join('')}"`
  }
  if (typeof given === 'string') return quoted(given)
  if (typeof given !== 'object' || given === null) return JSON.stringify(given)
  const inner = escapes + 1
  if ('list' in given)
    return `[${gap}${given.list.map((one) => written(one, gap, inner)).join(`${gap},${gap}`)}]`
  return `{${gap}${given.object.map(([name, one]) => `${quoted(name)}${gap}:${gap}${written(one, gap, inner)}`).join(`,${gap}`)}}`
}

function namesWritten(given: Tree): number {
  if (typeof given !== 'object' || given === null) return 0
  if ('list' in given) return given.list.reduce((sum: number, one) => sum + namesWritten(one), 0)
  return given.object.reduce((sum: number, [, one]) => sum + 1 + namesWritten(one), 0)
}

describe('JSON text', () => {
  it('without equal names has the value of JSON.parse', () => {
    fc.assert(
      fc.property(value, (given) => {
        const text = JSON.stringify(given)
        fc.pre(!/"(__proto__|constructor)"/.test(text))
        expect(parsedJsonText(text)).toEqual(JSON.parse(text))
      }),
      { numRuns: 500 },
    )
  })

  it('is refused if and only if JSON.parse loses a name', () => {
    let refused = 0
    fc.assert(
      fc.property(tree, space, seed, (given, gap, escapes) => {
        const text = written(given, gap, escapes)
        const parsed = JSON.parse(text) as unknown
        const lost = namesWritten(given) !== namesIn(parsed)
        if (lost) {
          refused += 1
          expect(() => parsedJsonText(text)).toThrow(/twice in one object/)
        } else expect(parsedJsonText(text)).toEqual(parsed)
      }),
      { numRuns: 2000, seed: 20 },
    )
    expect(refused).toBeGreaterThan(50)
  })

  it.each([
    '{',
    '',
    ' ',
    '{"a" 1}',
    '[1,]',
    '{"a":1}}',
    'NaN',
    "{'a':1}",
    '"\u0001"',
    '\u00a01',
    '01',
    '1 2',
  ])('%j is no JSON', (text) => {
    expect(() => parsedJsonText(text)).toThrow(JsonTextError)
    expect(() => parsedJsonText(text)).toThrow('is not valid JSON')
  })

  it.each([
    '{"__proto__": 1}',
    '{"a": [{"__proto__": {}}]}',
    '{"\\u005f_proto__": 1}',
    '{"constructor": {"prototype": 1}}',
  ])('%s is refused for its name', (text) =>
    expect(() => parsedJsonText(text)).toThrow('__proto__'),
  )

  it.each(['9007199254740993', '-9007199254740993', '12345678901234567890', '9'.repeat(400)])(
    '%s is refused',
    (number) => {
      expect(() => parsedJsonText(`{"a": [${number}]}`)).toThrow(/no double holds exactly/)
    },
  )

  it.each([
    '9007199254740991',
    '-9007199254740992',
    '100000000000000000000',
    '123456789012345680000',
    '0.12345678901234567890',
    '1e308',
    '1.5e-300',
    '"9007199254740993"',
  ])('%s is a value like any other', (text) => expect(parsedJsonText(text)).toBe(JSON.parse(text)))

  it.each([
    ['numbers', `[${'1,'.repeat(10_000_000)}1]`],
    ['lists in lists', `${'['.repeat(10_000_000)}${']'.repeat(10_000_000)}`],
    ['objects', `[${'{},'.repeat(6_600_000)}{}]`],
    ['names', `{${Array.from({ length: 60_000 }, (_, at) => `"n${at}":1`).join()}}`],
    ['lists that do not end', '['.repeat(20_000_000)],
  ])('with too many %s is refused before it is parsed', (_values, text) => {
    const begun = process.cpuUsage()
    expect(() => parsedJsonText(text)).toThrow('has more than 50000 values')
    expect(process.cpuUsage(begun).user).toBeLessThan(100_000)
  })

  it.each(['1,', '[],', '{},', '"",', '[[]],'])('of 65,536 bytes of %s is parsed', (values) => {
    const text = `[${values.repeat(65_530 / values.length)}1]`
    expect(parsedJsonText(text)).toEqual(JSON.parse(text))
  })

  it('has as many commas, brackets and quotes in its strings as it likes', () => {
    const text = JSON.stringify([',[{"\\'.repeat(100_000), { ',"[{': 1 }])
    expect(parsedJsonText(text)).toEqual(JSON.parse(text))
  })

  it.each(['"', '["a', '{"a\\"', '"\\\\\\"'])('%j without a closing quote is no JSON', (text) => {
    expect(() => parsedJsonText(text)).toThrow('is not valid JSON')
  })

  it('of 20 MB in one string, or of 20,000 levels, is parsed', () => {
    expect(parsedJsonText(`{"image": "${'a'.repeat(20_000_000)}"}`)).toHaveProperty('image')
    const begun = performance.now()
    const slashes = `"${'\\\\'.repeat(1_000_000)}"`
    parsedJsonText(`[${slashes}, ${slashes}]`)
    const quotes = `"${'\\"'.repeat(1_000_000)}"`
    parsedJsonText(`[${quotes}]`)
    expect(performance.now() - begun).toBeLessThan(10_000)
  })
})

it('refuses megabytes of white space and digits outside of strings', () => {
  for (const filler of [' ', '1'])
    expect(() => parsedJsonText(`[${filler.repeat(3_000_000)}]`)).toThrow(
      'characters outside of its strings',
    )
  expect(parsedJsonText(`["${' '.repeat(3_000_000)}"]`)).toEqual([' '.repeat(3_000_000)])
})

it('takes no more time for escaped quotes than for other letters', () => {
  const time = (piece: string): number => {
    const text = `["${piece.repeat(4_000_000)}"]`
    const begun = process.cpuUsage()
    parsedJsonText(text)
    return process.cpuUsage(begun).user
  }
  time('\\n')
  expect(time('\\"')).toBeLessThan(5 * time('\\n') + 100_000)
})
