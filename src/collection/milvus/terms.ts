/**
 * What of a payload can be asked for by equality, as a set of terms that a row keeps beside it. A
 * term is a digest of a path and a value, or of a path and a type. So a filter names digests alone:
 * nothing that a client writes comes into an expression, a missing key is a term that is not there
 * (two truth values, as in the reference), and one inverted index over the terms serves all keys.
 */
import { createHash } from 'node:crypto'
import { TandemError } from '../../errors.js'

type Scalar = string | number | boolean
/** The types that a value other than null can have. */
export const VALUE_TYPES = ['string', 'number', 'boolean', 'list', 'object'] as const
export type ValueType = (typeof VALUE_TYPES)[number]

/** The most values that a list in Milvus holds. */
export const MOST_TERMS = 4096
export const TERM_LENGTH = 22

/** Of rows whose value at `path` is `value`, or a list with it. */
export function valueTerm(path: readonly string[], value: Scalar): string {
  return digest(['value', path, value])
}

/** Of rows whose value at `path` is of the type. */
export function typeTerm(path: readonly string[], type: ValueType): string {
  return digest(['type', path, type])
}

/**
 * All terms of a payload. @throws TandemError payload_invalid where they are more than MOST_TERMS
 */
export function termsOf(payload: Readonly<Record<string, unknown>> | null): string[] {
  const terms = new Set<string>()
  // By a stack of its own: a payload may be nested deeply.
  const open: { path: string[]; value: unknown }[] = payload === null ? [] : inside([], payload)
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { path, value } = next
    if (value === null) continue
    const type = typeOf(value)
    terms.add(typeTerm(path, type))
    if (type === 'object') open.push(...inside(path, value as Record<string, unknown>))
    else
      for (const one of type === 'list' ? (value as unknown[]) : [value])
        if (isScalar(one)) terms.add(valueTerm(path, one))
  }
  if (terms.size <= MOST_TERMS) return [...terms]
  const sentence = `The payload has ${terms.size} different keys and values; Milvus filters by at most ${MOST_TERMS} of an item.`
  throw new TandemError('payload_invalid', sentence)
}

function inside(
  path: readonly string[],
  object: Readonly<Record<string, unknown>>,
): { path: string[]; value: unknown }[] {
  return Object.entries(object).map(([name, value]) => ({ path: [...path, name], value }))
}

function typeOf(value: unknown): ValueType {
  if (Array.isArray(value)) return 'list'
  return typeof value as ValueType
}

function isScalar(value: unknown): value is Scalar {
  return ['string', 'number', 'boolean'].includes(typeof value)
}

function digest(what: unknown): string {
  return createHash('sha256').update(JSON.stringify(what)).digest('base64url').slice(0, TERM_LENGTH)
}
