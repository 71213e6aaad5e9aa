/**
 * A condition on payloads, as clients write it and as whoever holds the items evaluates it. What is
 * here is the reference: an engine that is given a translation of a filter has to find the same
 * items.
 *
 * Two truth values only: a condition on what a payload does not have, or has as another type, does
 * not hold, and under `mustNot` it is therefore met.
 */
import { compareText } from './text-order.js'

export { parseFilter } from './parse.js'

export type Scalar = string | number | boolean

/**
 * Holds where all of `must` hold, at least one of `should` where there are any, and none of
 * `mustNot`.
 */
export interface Filter {
  readonly must: readonly Condition[]
  readonly should: readonly Condition[]
  readonly mustNot: readonly Condition[]
}

/**
 * `path` is one name or more: the first in the payload, the next in the object found there. It does
 * not lead into lists.
 *
 * - match: the value is one of `values` (same type, same value), or a list with such an element; at least one value
 * - range: the value meets all `bounds`; at least one, and all of them numbers or all of them texts, as the value has to
 *   be. Texts are ordered by their code points, as their UTF-8 bytes are. No element of a list is looked at.
 * - exists: whether there is a value other than null (an empty list or object is one)
 */
export type Condition =
  | { readonly kind: 'match'; readonly path: readonly string[]; readonly values: readonly Scalar[] }
  | { readonly kind: 'range'; readonly path: readonly string[]; readonly bounds: readonly Bound[] }
  | { readonly kind: 'exists'; readonly path: readonly string[]; readonly exists: boolean }
  | { readonly kind: 'filter'; readonly filter: Filter }

export interface Bound {
  readonly than: 'gt' | 'gte' | 'lt' | 'lte'
  readonly value: number | string
}

type Payload = Readonly<Record<string, unknown>>
type Test = (payload: Payload | null) => boolean

/**
 * A function that says of a payload whether the filter holds; null is the payload of an item
 * without one.
 */
export function testOf({ must, should, mustNot }: Filter): (payload: Payload | null) => boolean {
  const [all, some, none] = [
    must.map(testOfCondition),
    should.map(testOfCondition),
    mustNot.map(testOfCondition),
  ]
  return (payload) => {
    const holds = (test: Test): boolean => test(payload)
    return all.every(holds) && (some.length === 0 || some.some(holds)) && !none.some(holds)
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

/** Names of the payload's own alone: every object has a "constructor". */
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

/** Below 0 where `value` comes before `bound`; undefined for two types. */
function orderOf(value: unknown, bound: number | string): number | undefined {
  if (typeof value === 'number' && typeof bound === 'number') return Math.sign(value - bound)
  if (typeof value === 'string' && typeof bound === 'string') return compareText(value, bound)
  return undefined
}
