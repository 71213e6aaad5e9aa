/** Turns errors of ajv into one sentence: the field, the value given, and what is expected. */
import type { ErrorObject } from 'ajv'
import { clip } from '../../errors.js'

interface DescribedSchema {
  description?: string
  properties?: Record<string, DescribedSchema>
}

const MAX_QUOTE = 60
/** Longer strings of a large body are not there whole: see long-strings.ts. */
const MAX_COUNTED = 10_000

/**
 * @param errors - of ajv with `verbose`
 * @param kind - a property is a field of a body or a parameter of a URL
 */
export function sentenceFor(errors: readonly ErrorObject[], kind: 'field' | 'parameter'): string {
  const error = mostTelling(errors)
  if (error === undefined) return 'The request is not as expected.'
  const schema = (error.parentSchema ?? {}) as DescribedSchema
  const params = error.params as Record<string, string>
  const place = placeOf(error.instancePath)
  const inPlace = place === '' ? '' : ` in ${place}`
  switch (error.keyword) {
    case 'additionalProperties': {
      const known = Object.keys(schema.properties ?? {}).join(', ')
      const name = quoted(params['additionalProperty'])
      return `${name}${inPlace} is not a known ${kind}; expected ${known === '' ? `no ${kind}` : `one of: ${known}`}.`
    }
    case 'required': {
      const name = params['missingProperty'] ?? ''
      return `${name} is missing${inPlace}; expected ${describe(schema.properties?.[name])}.`
    }
    default:
      return `${place === '' ? 'The body' : place} is ${shown(error.data)}; expected ${describe(schema)}.`
  }
}

/** Of the errors of several alternatives, the one about the alternative of the value's type. */
function mostTelling(errors: readonly ErrorObject[]): ErrorObject | undefined {
  const last = errors.at(-1)
  if (last?.keyword !== 'anyOf') return last
  return errors.find(({ keyword }) => keyword !== 'type' && keyword !== 'anyOf') ?? last
}

/** `/inputs/0/text` → `inputs[0].text` */
function placeOf(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part, at) => (/^\d+$/.test(part) ? `[${part}]` : at === 0 ? part : `.${part}`))
    .join('')
}

function describe(schema: DescribedSchema | undefined): string {
  return schema?.description ?? 'a value that the API documentation at /docs describes'
}

/** A value as a sentence quotes it. */
export function shown(value: unknown): string {
  if (Array.isArray(value))
    return value.length === 0 ? 'an empty list' : `a list of ${value.length}`
  if (typeof value === 'object' && value !== null) {
    const names = Object.keys(value)
    return names.length === 0 ? 'an empty object' : `an object with ${clipped(names.join(', '))}`
  }
  return quoted(value)
}

function quoted(value: unknown): string {
  return clipped(JSON.stringify(value) ?? 'nothing')
}

function clipped(text: string): string {
  if (text.length <= MAX_QUOTE) return text
  const length = text.length > MAX_COUNTED ? `more than ${MAX_COUNTED}` : text.length
  return `${clip(text, MAX_QUOTE)}… (${length} characters)`
}
