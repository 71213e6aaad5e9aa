/** Parses a filter out of JSON. Limits keep the evaluation of one filter cheap. */
import { clip, TandemError } from '../errors.js'
import type { Bound, Condition, Filter, Scalar } from './filter.js'

/** Levels of nested filters, with the outermost. */
const MAX_DEPTH = 8
/** Conditions in one filter, with those of nested filters. */
const MAX_CONDITIONS = 100
/** Values of all `match` in one filter. */
const MAX_VALUES = 1000
const MAX_KEY_CHARS = 256
const MAX_TEXT_CHARS = 1024
const LONGEST_QUOTE = 60

const LISTS = ['must', 'should', 'must_not'] as const
const BOUNDS = ['gt', 'gte', 'lt', 'lte'] as const
const KINDS = ['match', 'range', 'exists'] as const

/** Number of parts read of one filter so far. */
interface Tally {
  conditions: number
  values: number
}

/**
 * @param value - parsed JSON
 * @throws TandemError invalid_request with the place in the filter, the value there and what is
 *   expected
 */
export function parseFilter(value: unknown): Filter {
  return filterAt(value, 'filter', 1, { conditions: 0, values: 0 })
}

function filterAt(value: unknown, place: string, depth: number, tally: Tally): Filter {
  const {
    must,
    should,
    must_not: mustNot,
  } = objectAt(value, place, LISTS, `an object with ${LISTS.join(', ')}`)
  if (depth > MAX_DEPTH)
    throw refusal(`${place} is a filter ${depth} levels deep`, `at most ${MAX_DEPTH}`)
  const conditionsAt = (list: unknown, name: string): Condition[] => {
    if (list === undefined) return []
    if (!Array.isArray(list))
      throw refusal(`${place}.${name} is ${shown(list)}`, 'a list of conditions')
    return list.map((condition, at) =>
      conditionAt(condition, `${place}.${name}[${at}]`, depth, tally),
    )
  }
  return {
    must: conditionsAt(must, 'must'),
    should: conditionsAt(should, 'should'),
    mustNot: conditionsAt(mustNot, 'must_not'),
  }
}

function conditionAt(value: unknown, place: string, depth: number, tally: Tally): Condition {
  tally.conditions += 1
  if (tally.conditions > MAX_CONDITIONS)
    throw refusal(`filter has more than ${MAX_CONDITIONS} conditions`, 'at most that')
  const expected = 'an object with key and one of match, range, exists, or a filter'
  const condition = objectAt(value, place, ['key', ...KINDS, ...LISTS], expected)
  const names = Object.keys(condition)
  if (names.length > 0 && names.every((name) => (LISTS as readonly string[]).includes(name))) {
    return { kind: 'filter', filter: filterAt(value, place, depth + 1, tally) }
  }
  const [kind, ...more] = KINDS.filter((name) => name in condition)
  if (kind === undefined || more.length > 0 || names.length !== 2 || !('key' in condition)) {
    throw refusal(`${place} is ${shown(value)}`, expected)
  }
  const path = pathAt(condition['key'], `${place}.key`)
  switch (kind) {
    case 'match':
      return { kind, path, values: valuesAt(condition[kind], `${place}.match`, tally) }
    case 'range':
      return { kind, path, bounds: boundsAt(condition[kind], `${place}.range`) }
    case 'exists':
      return { kind, path, exists: booleanAt(condition[kind], `${place}.exists`) }
  }
}

function pathAt(value: unknown, place: string): string[] {
  if (typeof value === 'string' && value.length <= MAX_KEY_CHARS) {
    const path = value.split('.')
    if (path.every((name) => name !== '')) return path
  }
  throw refusal(
    `${place} is ${shown(value)}`,
    `names of the payload joined by points, in at most ${MAX_KEY_CHARS} characters`,
  )
}

function valuesAt(match: unknown, place: string, tally: Tally): Scalar[] {
  const expected = `a text of at most ${MAX_TEXT_CHARS} characters, a number, true, false, or a list of these`
  const values: unknown[] = Array.isArray(match) ? match : [match]
  if (values.length === 0) throw refusal(`${place} is ${shown(match)}`, expected)
  tally.values += values.length
  if (tally.values > MAX_VALUES)
    throw refusal(`filter has more than ${MAX_VALUES} values to match`, 'at most that')
  return values.map((value, at) => {
    if (typeof value === 'boolean' || isNumber(value) || isText(value)) return value
    throw refusal(`${place}${Array.isArray(match) ? `[${at}]` : ''} is ${shown(value)}`, expected)
  })
}

function boundsAt(value: unknown, place: string): Bound[] {
  const expected = `one or more of ${BOUNDS.join(', ')}, all numbers or all texts of at most ${MAX_TEXT_CHARS} characters`
  const range = objectAt(value, place, BOUNDS, expected)
  const bounds = BOUNDS.flatMap((than): Bound[] => {
    const bound = range[than]
    if (bound === undefined) return []
    if (isNumber(bound) || isText(bound)) return [{ than, value: bound }]
    throw refusal(`${place}.${than} is ${shown(bound)}`, expected)
  })
  if (new Set(bounds.map(({ value }) => typeof value)).size === 1) return bounds
  throw refusal(`${place} is ${shown(value)}`, expected)
}

function booleanAt(value: unknown, place: string): boolean {
  if (typeof value === 'boolean') return value
  throw refusal(`${place} is ${shown(value)}`, 'true or false')
}

/** @throws TandemError invalid_request unless it is an object with no other than the known names */
function objectAt(
  value: unknown,
  place: string,
  known: readonly string[],
  expected: string,
): Partial<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refusal(`${place} is ${shown(value)}`, expected)
  }
  const unknown = Object.keys(value).find((name) => !known.includes(name))
  if (unknown !== undefined) throw refusal(`${place} has ${shown(unknown)}`, expected)
  return value
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_TEXT_CHARS
}

function refusal(found: string, expected: string): TandemError {
  return new TandemError('invalid_request', `${found}; expected ${expected}.`)
}

/** Does not look inside lists and objects: they may be nested deeper than the stack allows. */
function shown(value: unknown): string {
  if (Array.isArray(value))
    return value.length === 0 ? 'an empty list' : `a list of ${value.length}`
  if (typeof value === 'object' && value !== null) {
    const names = Object.keys(value).slice(0, LONGEST_QUOTE)
    return names.length === 0 ? 'an empty object' : `an object with ${clipped(names.join(', '))}`
  }
  return clipped(typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'nothing'))
}

function clipped(text: string): string {
  return text.length > LONGEST_QUOTE
    ? `${clip(text, LONGEST_QUOTE)}… (${text.length} characters)`
    : text
}
