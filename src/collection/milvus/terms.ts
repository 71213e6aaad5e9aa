/**
 * Terms: digests of each path and value of a payload, and of each path and type. A row has a column
 * of them. Equality filters name only digests, so clients cannot inject text into an expression. A
 * missing key is a missing term, which keeps two-valued logic, and one inverted index serves all
 * keys.
 */
import { createHash } from 'node:crypto'
import { TandemError } from '../../errors.js'

type Scalar = string | number | boolean
/** The types of values other than null. */
export const VALUE_TYPES = ['string', 'number', 'boolean', 'list', 'object'] as const
export type ValueType = (typeof VALUE_TYPES)[number]

/** The capacity of an array in Milvus. */
export const MAX_TERMS = 4096
const TERM_LENGTH = 22

/** Held by rows whose value at `path` is `value`, or a list that contains it. */
export function valueTerm(path: readonly string[], value: Scalar): string {
  return digest(['value', path, value])
}

/** Held by rows whose value at `path` is of the type. */
export function typeTerm(path: readonly string[], type: ValueType): string {
  return digest(['type', path, type])
}

/** All terms of a payload. @throws TandemError `payload_invalid` beyond MAX_TERMS */
export function termsOf(payload: Readonly<Record<string, unknown>> | null): string[] {
  const terms = new Set<string>()
  // An explicit stack: a payload may be nested deeply.
  const stack: { path: string[]; value: unknown }[] = payload === null ? [] : entriesOf([], payload)
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { path, value } = next
    if (value === null) continue
    const type = typeOf(value)
    terms.add(typeTerm(path, type))
    if (type === 'object') stack.push(...entriesOf(path, value as Record<string, unknown>))
    else
      for (const element of type === 'list' ? (value as unknown[]) : [value])
        if (isScalar(element)) terms.add(valueTerm(path, element))
  }
  if (terms.size <= MAX_TERMS) return [...terms]
  const sentence = `The payload has ${terms.size} different keys and values; Milvus takes at most ${MAX_TERMS} for an item.`
  throw new TandemError('payload_invalid', sentence)
}

function entriesOf(
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

function digest(value: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(value))
    .digest('base64url')
    .slice(0, TERM_LENGTH)
}
