/**
 * Filters as expressions of Milvus. Values of clients appear in them as digests, numbers or quoted
 * text.
 */
import { TandemError } from '../../errors.js'
import type { Condition, Filter } from '../../filter/filter.js'
import { typeTerm, valueTerm, VALUE_TYPES } from './terms.js'

/** A text as a literal of an expression. */
export function quoted(text: string): string {
  const escaped = text.replace(
    /[\\"\n\r\t]/g,
    (character) => `\\${ESCAPES[character] ?? character}`,
  )
  return `"${escaped}"`
}

const ESCAPES: Readonly<Record<string, string>> = { '\n': 'n', '\r': 'r', '\t': 't' }

/** Selects the rows of these ids. */
export function hasId(ids: readonly string[]): string {
  return `id in [${ids.map(quoted).join(', ')}]`
}

/**
 * Selects the rows whose payload passes the filter; undefined for a filter that all pass.
 * @throws TandemError `invalid_request` for a range over a key that Milvus cannot address
 */
export function expressionOf({ must, should, mustNot }: Filter): string | undefined {
  const clauses = [
    ...must.map(conditionOf),
    ...mustNot.map((condition) => `not (${conditionOf(condition)})`),
  ]
  if (should.length > 0) clauses.push(should.map(conditionOf).join(' or '))
  return clauses.length === 0 ? undefined : conjunction(clauses)
}

function conjunction(clauses: readonly string[]): string {
  return clauses.map((clause) => `(${clause})`).join(' and ')
}

function conditionOf(condition: Condition): string {
  switch (condition.kind) {
    case 'match':
      return hasTerm(condition.values.map((value) => valueTerm(condition.path, value)))
    case 'exists': {
      const exists = hasTerm(VALUE_TYPES.map((type) => typeTerm(condition.path, type)))
      return condition.exists ? exists : `not (${exists})`
    }
    case 'range': {
      const { path, bounds } = condition
      const field = fieldOf(path)
      const type = typeof bounds[0]?.value === 'number' ? 'number' : 'string'
      const comparisons = bounds.map(
        ({ than, value }) => `${field} ${OPERATORS[than]} ${literal(value)}`,
      )
      // The type is checked first: Milvus compares mixed types and missing keys differently.
      return conjunction([hasTerm([typeTerm(path, type)]), ...comparisons])
    }
    case 'filter':
      return expressionOf(condition.filter) ?? EVERY_ROW
  }
}

const OPERATORS = { gt: '>', gte: '>=', lt: '<', lte: '<=' } as const
/** True for every row: no id is empty. */
const EVERY_ROW = 'id != ""'

function hasTerm(terms: readonly string[]): string {
  return `ARRAY_CONTAINS_ANY(terms, [${terms.map(quoted).join(', ')}])`
}

/** Milvus ignores escapes in a path, so it cannot address every key. */
function fieldOf(path: readonly string[]): string {
  const unsupported = path.find((name) => !/^[^\p{C}"'\\/~[\]]+$/u.test(name))
  if (unsupported === undefined) return `payload${path.map((name) => `["${name}"]`).join('')}`
  const sentence = `Milvus cannot compare the key ${JSON.stringify(unsupported)} with a range: expected one without quotes, brackets, slashes, tildes and control characters.`
  throw new TandemError('invalid_request', sentence)
}

function literal(value: number | string): string {
  if (typeof value === 'string') return quoted(value)
  // Milvus refuses integers beyond 64 bits; exponential notation makes them floating point.
  return Number.isSafeInteger(value) ? String(value) : value.toExponential()
}
