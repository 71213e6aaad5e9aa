/** The filter of a search: JSON text in an address or a form, an object in a JSON body. */
import { TandemError } from '../../errors.js'
import type { Filter } from '../../filter/filter.js'
import { parseFilter } from '../../filter/parse.js'
import { JsonTextError, parsedJsonText } from '../json-text.js'

/** @throws TandemError invalid_request */
export function filterOf(given: string | object | undefined): Filter | undefined {
  if (given === undefined) return undefined
  return parseFilter(typeof given === 'string' ? jsonOf(given) : given)
}

function jsonOf(text: string): unknown {
  try {
    return parsedJsonText(text)
  } catch (error) {
    if (!(error instanceof JsonTextError)) throw error
    throw new TandemError(
      'invalid_request',
      `filter ${error.message}: ${JSON.stringify(text.slice(0, 60))}.`,
    )
  }
}
