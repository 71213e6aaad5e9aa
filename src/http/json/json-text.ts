/**
 * Parses JSON of clients, and refuses texts with two meanings. `JSON.parse` takes the last of two
 * equal names, other readers the first; and it rounds integers that a double cannot hold.
 */
import { scan } from 'secure-json-parse'
import { clip } from '../../errors.js'

/** The message is the rest of a sentence whose subject is the text. */
export class JsonTextError extends Error {
  override readonly name = 'JsonTextError'
}

/**
 * The value of a JSON text.
 *
 * @throws JsonTextError for invalid JSON, more than 50,000 values, names such as "__proto__", a
 *   name twice in one object, and integers that a double cannot hold exactly
 */
export function parsedJsonText(text: string): unknown {
  refuseManyValues(text)
  let value: unknown
  try {
    value = JSON.parse(text)
    // Of the value: the library's parser would search all of the text first.
    if (typeof value === 'object' && value !== null) scan(value)
  } catch (error) {
    const forbidden = /forbidden prototype property/.test((error as Error).message)
    throw new JsonTextError(
      forbidden ? 'has a key such as "__proto__", which is not allowed' : 'is not valid JSON',
    )
  }
  refuseAmbiguous(text)
  return value
}

/** More than the largest payload has, in lists and objects of any depth. */
const MAX_VALUES = 50_000
/** Numbers, punctuation and white space around them; each is looked at several times. */
const MAX_OUTSIDE = 2 ** 21
const MAX_QUOTE = 60
const QUOTE = 0x22
const COMMA = 0x2c
const OPEN_LIST = 0x5b
const OPEN_OBJECT = 0x7b
const CLOSE_LIST = 0x5d
const CLOSE_OBJECT = 0x7d
const BACKSLASH = 0x5c
const NUMBER = /[-+.0-9eE]+/y
/** Digits of 2^53. */
const MIN_INEXACT_DIGITS = 16

/**
 * Refuses a text with too many values before it is parsed: parsing millions takes seconds and
 * gigabytes. This limits the depth as well.
 */
export function refuseManyValues(text: string): void {
  if (hasMoreValues(text, MAX_VALUES))
    throw new JsonTextError(
      `has more than ${MAX_VALUES} values; expected at most that, counting lists, objects and what is in them`,
    )
}

/**
 * Whether a text, also of invalid JSON, has more values. Counts lists, objects and commas outside
 * strings.
 *
 * @throws JsonTextError for more than 2,097,152 characters outside strings
 */
export function hasMoreValues(text: string, most: number): boolean {
  let count = 1
  let outside = 0
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    outside += 1
    if (outside > MAX_OUTSIDE)
      throw new JsonTextError(
        `has more than ${MAX_OUTSIDE} characters outside of its strings, such as white space; expected at most that`,
      )
    if (code === QUOTE) at = endOfString(text, at) - 1
    else if (code === COMMA || code === OPEN_LIST || code === OPEN_OBJECT) count += 1
    if (count > most) return true
  }
  return false
}

/** Whether lists and objects of a text, also of invalid JSON, are nested more levels deep. */
export function isNestedDeeper(text: string, most: number): boolean {
  let depth = 0
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) at = endOfString(text, at) - 1
    else if (code === OPEN_LIST || code === OPEN_OBJECT) depth += 1
    else if (code === CLOSE_LIST || code === CLOSE_OBJECT) depth -= 1
    if (depth > most) return true
  }
  return false
}

/** Scans valid JSON. Not recursive, since the text may be nested as deep as it is long. */
function refuseAmbiguous(text: string): void {
  /** The names of each open object so far; null for each open list. */
  const open: (Set<string> | null)[] = []
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at] as string
    if (letter === '{') open.push(new Set())
    else if (letter === '[') open.push(null)
    else if (letter === '}' || letter === ']') open.pop()
    else if (letter === '"') {
      const end = endOfString(text, at)
      const names = open.at(-1)
      if (names && isName(text, end)) remember(names, text.slice(at, end))
      at = end - 1
    } else if (letter === '-' || (letter >= '0' && letter <= '9')) {
      const number = numberAt(text, at)
      refuseInexact(number)
      at += number.length - 1
    }
  }
}

/**
 * @returns the position after the closing quote of the string that opens at `at`; the end of the
 *   text if it has none
 */
function endOfString(text: string, at: number): number {
  const quote = text.indexOf('"', at + 1)
  if (quote === -1) return text.length
  let slashes = 0
  while (text.charCodeAt(quote - 1 - slashes) === BACKSLASH) slashes += 1
  if (slashes % 2 === 0) return quote + 1
  // With escaped quotes, a search for each is far slower than a look at every letter.
  for (let end = quote + 1; end < text.length; end += 1) {
    const code = text.charCodeAt(end)
    if (code === QUOTE) return end + 1
    if (code === BACKSLASH) end += 1
  }
  return text.length
}

/** Whether the string that ends at `end` is followed by a colon. */
function isName(text: string, end: number): boolean {
  let at = end
  while (' \t\n\r'.includes(text[at] as string)) at += 1
  return text[at] === ':'
}

function remember(names: Set<string>, quoted: string): void {
  // An escape is another spelling of the same name.
  const name = quoted.includes('\\') ? (JSON.parse(quoted) as string) : quoted.slice(1, -1)
  if (names.has(name))
    throw new JsonTextError(
      `has the name ${JSON.stringify(clip(name, MAX_QUOTE))} twice in one object`,
    )
  names.add(name)
}

function numberAt(text: string, at: number): string {
  NUMBER.lastIndex = at
  return NUMBER.exec(text)?.[0] ?? ''
}

/** Refuses integers that parsing would change. All JSON readers round fractions. */
function refuseInexact(number: string): void {
  if (number.length < MIN_INEXACT_DIGITS || !/^-?\d+$/.test(number)) return
  const value = Number(number)
  if (Number.isFinite(value) && (String(value) === number || BigInt(value) === BigInt(number)))
    return
  throw new JsonTextError(
    `has the number ${number.slice(0, MAX_QUOTE)}, which no double holds exactly; send it as a string`,
  )
}
