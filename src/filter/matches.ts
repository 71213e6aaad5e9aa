/**
 * Evaluates a filter on a payload. This is the reference: an engine that gets a translated filter
 * has to select the same items.
 *
 * There are two truth values. A condition on a missing value, or on a value of another type, is
 * false; under `mustNot` it is therefore met.
 */
import type { Bound, Condition, Filter } from './filter.js'

type Payload = Readonly<Record<string, unknown>>
type Test = (payload: Payload | null) => boolean

/** The test that payloads have to pass; null is the payload of an item that has none. */
export function testOf({ must, should, mustNot }: Filter): Test {
  const [all, any, none] = [
    must.map(testOfCondition),
    should.map(testOfCondition),
    mustNot.map(testOfCondition),
  ]
  return (payload) => {
    const holds = (test: Test): boolean => test(payload)
    return all.every(holds) && (any.length === 0 || any.some(holds)) && !none.some(holds)
  }
}

function testOfCondition(condition: Condition): Test {
  switch (condition.kind) {
    case 'match': {
      const { path } = condition
      const values = new Set<unknown>(condition.values)
      return (payload) => {
        const value = valueAt(payload, path)
        return Array.isArray(value)
          ? value.some((element) => values.has(element))
          : values.has(value)
      }
    }
    case 'range': {
      const { path, bounds } = condition
      return (payload) => {
        const value = valueAt(payload, path)
        return bounds.every((bound) => isWithin(value, bound))
      }
    }
    case 'exists': {
      const { path, exists } = condition
      return (payload) => ((valueAt(payload, path) ?? null) !== null) === exists
    }
    case 'filter':
      return testOf(condition.filter)
  }
}

/** Own properties only: every object inherits a "constructor". */
function valueAt(payload: Payload | null, path: readonly string[]): unknown {
  let value: unknown = payload
  for (const name of path) {
    if (
      typeof value !== 'object' ||
      value === null ||
      Array.isArray(value) ||
      !Object.hasOwn(value, name)
    )
      return undefined
    value = (value as Payload)[name]
  }
  return value
}

function isWithin(value: unknown, { than, value: bound }: Bound): boolean {
  const order = orderOf(value, bound)
  if (order === undefined) return false
  switch (than) {
    case 'gt':
      return order > 0
    case 'gte':
      return order >= 0
    case 'lt':
      return order < 0
    case 'lte':
      return order <= 0
  }
}

/** Below 0 if `value` comes before `bound`; undefined if their types differ. */
function orderOf(value: unknown, bound: number | string): number | undefined {
  if (typeof value === 'number' && typeof bound === 'number') return Math.sign(value - bound)
  if (typeof value === 'string' && typeof bound === 'string') return compareText(value, bound)
  return undefined
}

/** Order by code points. The operator `<` compares UTF-16, which differs beyond U+D7FF. */
function compareText(a: string, b: string): number {
  if (a === b) return 0
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}
