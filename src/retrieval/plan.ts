import { TandemError } from '../errors.js'
import type { Filter } from '../filter/filter.js'
import type { ModelInfo } from '../model/models.js'
import type { Query } from './encode.js'

/** How to search. The bundle has the defaults of `candidates` and `rerank`. */
export interface SearchOptions {
  /** Number of hits to return. */
  k?: number | undefined
  /** Number of items to recall before reranking; at least k. */
  candidates?: number | undefined
  rerank?: boolean | undefined
  /** Leaves out hits with a lower match; only with rerank. */
  minMatch?: number | undefined
  /** Only items whose payload passes. */
  filter?: Filter | undefined
  /** Language of the text (BCP 47); identified if it is not given. */
  language?: string | undefined
}

export interface SearchPlan {
  k: number
  candidates: number
  rerank: boolean
  minMatch: number
  filter: Filter | undefined
  language: string | undefined
}

const DEFAULT_K = 10

/**
 * Fills in the defaults.
 *
 * @throws TandemError options_conflict if an option contradicts another one or the query
 */
export function planSearch(
  query: Query,
  options: SearchOptions,
  { rerank: byDefault }: ModelInfo,
): SearchPlan {
  const { k = DEFAULT_K, minMatch = 0 } = options
  const isText = 'text' in query
  if (options.rerank === true && !isText) {
    throw new TandemError(
      'options_conflict',
      'rerank needs a text query: an image or an id finds similar images, and there is no text to match.',
    )
  }
  if (options.language !== undefined && !isText) {
    throw new TandemError(
      'options_conflict',
      `language is ${options.language}, but the query is an image or an id; expected a text query.`,
    )
  }
  const rerank = isText && (options.rerank ?? byDefault.default)
  if (minMatch > 0 && !rerank) {
    throw new TandemError(
      'options_conflict',
      `min_match is ${minMatch}, but without rerank (a text query, and rerank not false) no match is computed.`,
    )
  }
  // Without rerank the hits are the first k that the recall returns.
  const candidates = options.candidates ?? (rerank ? Math.max(k, byDefault.candidates) : k)
  if (candidates < k) {
    throw new TandemError(
      'options_conflict',
      `candidates is ${candidates}; expected at least k, which is ${k}.`,
    )
  }
  return { k, candidates, rerank, minMatch, filter: options.filter, language: options.language }
}
