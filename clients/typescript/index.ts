/** A typed client of Tandem's HTTP API for Node and browsers. */
import createClient, { type Client } from 'openapi-fetch'
import type { components, paths } from './schema.js'

export type Schemas = components['schemas']
export type Tandem = Client<paths>

export interface TandemOptions {
  /** The address of the service, such as http://127.0.0.1:3000; may have a path. */
  url: string
  /** An API key, where the service asks for one. */
  apiKey?: string
  /** Instead of the global fetch. */
  fetch?: typeof globalThis.fetch
}

/**
 * A client with a method for each HTTP method, typed by path: `tandem.POST('/search', { body })`.
 * A call resolves to `data`, or to `error`, a `Problem`; it rejects if no service answers.
 */
export function tandem({ url, apiKey, fetch }: TandemOptions): Tandem {
  return createClient<paths>({
    baseUrl: url.replace(/\/+$/, ''),
    ...(apiKey === undefined ? {} : { headers: { authorization: `Bearer ${apiKey}` } }),
    ...(fetch === undefined ? {} : { fetch }),
  })
}
