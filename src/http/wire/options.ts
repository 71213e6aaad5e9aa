/** Options of a search, as an address, a form or a JSON body has them. */
import { parseFilter } from '../../filter/parse.js'
import type { SearchOptions } from '../../retrieval/retrieval.js'
import { checked, compileCoercing } from '../plugins/validation.js'
import { SearchOptions as WireOptions } from '../schemas/search.js'
import { onlyField, type FormPart } from './form.js'
import { parseJson } from './payload.js'

export const OPTION_NAMES = Object.keys(WireOptions.properties)
const validate = compileCoercing<WireOptions>(WireOptions)

/** @throws TandemError invalid_request for a malformed filter */
export function searchOptions({
  k,
  candidates,
  rerank,
  language,
  min_match: minMatch,
  filter,
}: Omit<WireOptions, 'filter'> & { filter?: string | object }): SearchOptions {
  const parsed =
    typeof filter === 'string' ? parseJson(filter, 'filter', 'invalid_request') : filter
  return {
    k,
    candidates,
    rerank,
    language,
    minMatch,
    filter: parsed === undefined ? undefined : parseFilter(parsed),
  }
}

/** The options among the fields of a form. @throws TandemError invalid_request */
export function formOptions(parts: readonly FormPart[]): SearchOptions {
  const fields = OPTION_NAMES.map((name) => [name, onlyField(parts, name)] as const)
  const present = Object.fromEntries(fields.filter(([, value]) => value !== undefined))
  return searchOptions(checked(validate, present, 'field'))
}
