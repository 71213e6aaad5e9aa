/** Reads large JSON bodies on a thread, one at a time (json-threads.ts). */
import { isUtf8 } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { TandemError, type ErrorCode } from '../../errors.js'
import { isNestedDeeper, JsonTextError, parsedJsonText, refuseManyValues } from './json-text.js'
import { MAX_DEPTH, JsonPieces, type Piece } from './json-pieces.js'
import { cutString, jsonBytesWith, MAX_SHORT, type LongString } from './long-strings.js'
import { utf8Text } from '../utf8.js'

export interface Question {
  bytes: Uint8Array
  /** Of the text, in errors. */
  place: string
}

/** A question, or the request for the next reply to it. */
export type Message = Question | 'next'

/** Pieces of the value, then what is known of it. */
export type Reply =
  | { piece: Piece }
  | { longStrings: Map<string, LongString>; fieldBytes: Map<string, number> }
  /** The code is null for a JsonTextError. */
  | { failure: { code: ErrorCode | null; message: string } }

const QUOTE = 0x22
const BACKSLASH = 0x5c
/** Steps of `nice`, as of worker processes: the event loop goes first. */
const NICE_STEPS = 5

/**
 * Replies with the value of a JSON text in UTF-8, with stand-ins for long strings.
 *
 * @throws TandemError text_unreadable; JsonTextError as `parsedJsonText`, and for more than 1,000
 *   levels
 */
function* read({ bytes, place }: Question): Generator<Reply> {
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  // It names the first byte that is not.
  if (!isUtf8(body)) utf8Text(body, place)
  const strings = longStringsIn(body)
  const textWith = (inPlace: (at: number) => string): string => {
    let from = 0
    const pieces = strings.map(({ start, end }, at) => {
      const before = utf8Text(body.subarray(from, start), place)
      from = end
      return before + inPlace(at)
    })
    return [...pieces, utf8Text(body.subarray(from), place)].join('')
  }
  refuseManyValues(textWith(() => '""'))
  const secret = randomBytes(32)
  const longStrings = new Map<string, LongString>()
  const text = textWith((at) => {
    const { start, end } = strings[at] as Span
    const quoted = utf8Text(body.subarray(start, end), place)
    const string = parsedJsonText(quoted) as string
    if (string.length <= MAX_SHORT) return quoted
    const { standIn, mark, long } = cutString(string, secret)
    longStrings.set(mark, long)
    return JSON.stringify(standIn)
  })
  const value = parsedJsonText(text)
  refuseDepth(text)
  const pieces = new JsonPieces(value)
  const fieldBytes = new Map(
    pieces.largeFields.map(([name, field]) => [name, jsonBytesWith(longStrings, field)]),
  )
  for (const piece of pieces) yield { piece }
  yield { longStrings, fieldBytes }
}

/** From a quote to the byte after the closing one. */
interface Span {
  start: number
  end: number
}

/** The strings that may be long, also of invalid JSON. */
function longStringsIn(body: Buffer): Span[] {
  const spans: Span[] = []
  let at = 0
  for (;;) {
    const start = body.indexOf(QUOTE, at)
    if (start === -1) return spans
    const end = endOfString(body, start)
    if (end - start > MAX_SHORT) spans.push({ start, end })
    at = end
  }
}

/** As in json-text.ts. */
function endOfString(body: Buffer, start: number): number {
  const quote = body.indexOf(QUOTE, start + 1)
  if (quote === -1) return body.length
  let slashes = 0
  while (body[quote - 1 - slashes] === BACKSLASH) slashes += 1
  if (slashes % 2 === 0) return quote + 1
  for (let end = quote + 1; end < body.length; end += 1) {
    if (body[end] === QUOTE) return end + 1
    if (body[end] === BACKSLASH) end += 1
  }
  return body.length
}

function refuseDepth(text: string): void {
  if (isNestedDeeper(text, MAX_DEPTH))
    throw new JsonTextError(`is nested more than ${MAX_DEPTH} levels deep; expected at most that`)
}

function* repliesTo(question: Question): Generator<Reply> {
  try {
    yield* read(question)
  } catch (error) {
    if (error instanceof JsonTextError) yield { failure: { code: null, message: error.message } }
    else if (error instanceof TandemError)
      yield { failure: { code: error.code, message: error.message } }
    else throw error
  }
}

/** Images are handed over, not copied. */
function buffersIn(reply: Reply): ArrayBuffer[] {
  if (!('longStrings' in reply)) return []
  return [...reply.longStrings.values()].flatMap(({ image }) =>
    image instanceof Uint8Array ? [image.buffer as ArrayBuffer] : [],
  )
}

// On Linux process 0 is the calling thread; elsewhere it is the whole service.
if (process.platform === 'linux') setPriority(0, NICE_STEPS)
let replies: Iterator<Reply, undefined> = [][Symbol.iterator]()
parentPort?.on('message', (message: Message) => {
  if (message !== 'next') replies = repliesTo(message)
  const { value: reply } = replies.next()
  if (reply !== undefined) parentPort?.postMessage(reply, buffersIn(reply))
})
