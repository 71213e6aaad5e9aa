import { TandemError } from '../../errors.js'

/**
 * Refuses a list of token ids, or of such lists.
 *
 * @param name - of the input, in errors
 * @throws TandemError invalid_request
 */
export function refuseTokens(input: unknown, name: string): void {
  if (!isTokens(input) && !(Array.isArray(input) && input.some(isTokens))) return
  throw new TandemError(
    'invalid_request',
    `${name} has token ids; expected texts, because the bundle has a tokenizer of its own. ` +
      'With LangChain set check_embedding_ctx_length=False.',
  )
}

function isTokens(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every((id) => typeof id === 'number')
}
