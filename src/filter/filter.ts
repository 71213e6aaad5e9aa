/** A condition on payloads. `matches.ts` defines which payloads it selects. */

export type Scalar = string | number | boolean

/** All of `must` hold, at least one of `should` if there are any, and none of `mustNot`. */
export interface Filter {
  readonly must: readonly Condition[]
  readonly should: readonly Condition[]
  readonly mustNot: readonly Condition[]
}

/**
 * `path` has at least one name: the first in the payload, each further one in the object found
 * before. A path does not lead into lists.
 *
 * - match: the value is one of `values` (same type, same value), or a list with such an element;
 *   at least one value
 * - range: the value meets all `bounds`; at least one, all numbers or all texts, and the value has
 *   the same type. Texts are ordered by code points, as their UTF-8 bytes are; a list is in no
 *   range
 * - exists: whether there is a value other than null; an empty list or object is a value
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
