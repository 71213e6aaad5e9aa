/**
 * Filters as expressions of Milvus. What clients write comes into them as digests, as numbers, or
 * quoted.
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

/** The rows of these ids. */
export function hasId(ids: readonly string[]): string {
  return `id in [${ids.map(quoted).join(', ')}]`
}

/**
 * The rows whose payload the filter holds for; undefined where that is every row.
 * @throws TandemError invalid_request for a range over a key with characters that Milvus cannot
 *   take
 */
export function expressionOf({ must, should, mustNot }: Filter): string | undefined {
  const some = should.map(conditionOf)
  const all = [
    ...must.map(conditionOf),
    ...mustNot.map((condition) => `not (${conditionOf(condition)})`),
  ]
  if (some.length > 0) all.push(some.join(' or '))
  return all.length === 0 ? undefined : all.map((one) => `(${one})`).join(' and ')
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
      const place = placeOf(path)
      const type = typeof bounds[0]?.value === 'number' ? 'number' : 'string'
      const comparisons = bounds.map(
        ({ than, value }) => `${place} ${OPERATORS[than]} ${literal(value)}`,
      )
      // The type comes first: Milvus has its own ideas of comparing two types, and of what is not
      // there.
      return [hasTerm([typeTerm(path, type)]), ...comparisons]
        .map((one) => `(${one})`)
        .join(' and ')
    }
    case 'filter':
      return expressionOf(condition.filter) ?? EVERY_ROW
  }
}

const OPERATORS = { gt: '>', gte: '>=', lt: '<', lte: '<=' } as const
/** No id is empty. */
const EVERY_ROW = 'id != ""'

function hasTerm(terms: readonly string[]): string {
  return `ARRAY_CONTAINS_ANY(terms, [${terms.map(quoted).join(', ')}])`
}

/** Milvus reads a path without heeding escapes, so that such a key would be another one there. */
function placeOf(path: readonly string[]): string {
  const strange = path.find((name) => !/^[^\p{C}"'\\/~[\]]+$/u.test(name))
  if (strange === undefined) return `payload${path.map((name) => `["${name}"]`).join('')}`
  const sentence = `A range cannot be asked of the key ${JSON.stringify(strange)} in Milvus: expected one without quotes, brackets, slashes, tildes and control characters.`
  throw new TandemError('invalid_request', sentence)
}

function literal(value: number | string): string {
  if (typeof value === 'string') return quoted(value)
  // Whole numbers beyond 64 bits are refused, unless they are written as what they are.
  return Number.isSafeInteger(value) ? String(value) : value.toExponential()
}
