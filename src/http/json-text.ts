/**
 * JSON as strangers send it, read so that it can mean one thing only. `JSON.parse` lets the last of
 * two equal names win, where another reader takes the first, and rounds integers that it cannot
 * hold: both would be seen too late, or never.
 */
import { parse } from 'secure-json-parse'

/** What is wrong with a JSON text, as the rest of a sentence that begins with what the text is. */
export class JsonTextError extends Error {
  override readonly name = 'JsonTextError'
}

/**
 * The value of a JSON text.
 *
 * @throws JsonTextError for broken JSON, names such as "__proto__", a name twice in one object, and
 *   integers that are beyond what a double holds exactly
 */
export function parsedJsonText(text: string): unknown {
  let value: unknown
  try {
    value = parse(text)
  } catch (error) {
    const forbidden = /forbidden prototype property/.test((error as Error).message)
    throw new JsonTextError(
      forbidden ? 'has a key such as "__proto__", which is not taken' : 'is not valid JSON',
    )
  }
  refuseAmbiguous(text)
  return value
}

const LONGEST_QUOTE = 60
const BACKSLASH = 0x5c
const NUMBER = /[-+.0-9eE]+/y
/** Digits of 2^53. */
const SHORTEST_INEXACT = 16

/**
 * Walks through a text that is known to be valid JSON, without recursion: it may be nested as deep
 * as it is long.
 */
function refuseAmbiguous(text: string): void {
  /** For each open object the names in it so far, for each open list null. */
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

/** @returns the place behind the closing quote of the string that opens at `at` */
function endOfString(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); ; end = text.indexOf('"', end + 1)) {
    let slashes = 0
    while (text.charCodeAt(end - 1 - slashes) === BACKSLASH) slashes += 1
    if (slashes % 2 === 0) return end + 1
  }
}

/** Whether the string that ends at `end` is followed by a colon. */
function isName(text: string, end: number): boolean {
  let at = end
  while (' \t\n\r'.includes(text[at] as string)) at += 1
  return text[at] === ':'
}

function remember(names: Set<string>, quoted: string): void {
  // Two spellings of one name are the same name.
  const name = quoted.includes('\\') ? (JSON.parse(quoted) as string) : quoted.slice(1, -1)
  if (names.has(name))
    throw new JsonTextError(
      `has the name ${JSON.stringify(name.slice(0, LONGEST_QUOTE))} twice in one object`,
    )
  names.add(name)
}

function numberAt(text: string, at: number): string {
  NUMBER.lastIndex = at
  return NUMBER.exec(text)?.[0] ?? ''
}

/**
 * An integer that would come back as another one. Fractions are rounded wherever JSON is read;
 * nobody counts with them.
 */
function refuseInexact(number: string): void {
  if (number.length < SHORTEST_INEXACT || !/^-?\d+$/.test(number)) return
  const value = Number(number)
  if (Number.isFinite(value) && (String(value) === number || BigInt(value) === BigInt(number)))
    return
  throw new JsonTextError(
    `has the number ${number.slice(0, LONGEST_QUOTE)}, which no double holds exactly: write it as a string`,
  )
}
