/** Licenses of weights by the names that cards use. */

/** Licenses that forbid commercial use, or allow research alone. */
const FORBIDDING = [
  /^cc-by-nc/,
  /^apple-(amlr|ascl|sample)/,
  /^(aml|amlr)$/,
  /research/,
  /non-?commercial/,
]
const ALLOWING = [/^(apache-2\.0|mit|bsd.*|cc0-1\.0|cc-by-4\.0|cc-by-3\.0|unlicense|isc)$/]

/** Whether a license allows commercial use; undefined if it is not known. */
export function allowsCommerce(license: string | null): boolean | undefined {
  const name = license?.toLowerCase() ?? ''
  if (FORBIDDING.some((pattern) => pattern.test(name))) return false
  return ALLOWING.some((pattern) => pattern.test(name)) ? true : undefined
}
