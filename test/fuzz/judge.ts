/** Checks that hold for the answer to any message. */
import { errorTable } from '../../src/errors.js'
import type { Reply } from './connection.js'

/** Stack traces and paths of the service. */
const INSIDES = /node_modules|\.[cm]?[jt]s:\d+|\bat [\w.<>]+ \(|tandem-fuzz-/
/** Of a tool of MCP, and of its SDK. */
const INTERNAL = /\(internal_error\)|"code":-32603/
const LONGEST_DETAIL = 2000

interface Document {
  paths: Record<string, Record<string, { responses: Record<string, unknown> }>>
}

export class Judge {
  readonly #operations: { method: string; path: RegExp; statuses: Set<string> }[]

  /** @param document - the OpenAPI document of the service */
  constructor({ paths }: Document) {
    this.#operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { responses }]) => ({
        method: method.toUpperCase(),
        path: new RegExp(`^${path.replace(/\{\w+\}/g, '[^/?]+')}(\\?|$)`),
        statuses: new Set(Object.keys(responses)),
      })),
    )
  }

  /**
   * The fault of the answer as a sentence, or null.
   *
   * @param message - null if it is unknown
   */
  fault(message: Buffer | null, reply: Reply): string | null {
    const { status, body, headers } = reply
    const type = headers.get('content-type') ?? ''
    const text = type.startsWith('image/') ? '' : body.toString()
    if (INSIDES.test(text))
      return `an answer shows the insides of the service: ${text.slice(0, 300)}`
    if (!this.#isDocumented(message, status))
      return `the status ${status} is not in the OpenAPI document`
    if (type.startsWith('application/json') && INTERNAL.test(text))
      return `the service failed within an answer: ${text.slice(0, 300)}`
    if (type.startsWith('application/json'))
      return isJson(text) || body.length === 0 ? null : 'an answer that is not JSON'
    return status < 400 || body.length === 0 ? null : problemFault(status, type, text)
  }

  /** Malformed HTTP and unknown operations may have any status of the error table. */
  #isDocumented(message: Buffer | null, status: number): boolean {
    const [, method = '', target = ''] =
      /^([A-Z]+) (\S+) HTTP\/1\.1\r\n/.exec(message?.toString('latin1', 0, 20_000) ?? '') ?? []
    const found = this.#operations.find((one) => one.method === method && one.path.test(target))
    if (found !== undefined) return found.statuses.has(String(status)) || BEFORE_ROUTES.has(status)
    return status < 400 || known.has(status)
  }
}

/** Answers of the HTTP parser, before there is a request. */
const BEFORE_ROUTES = new Set([400, 431])
const known = new Set(Object.values(errorTable).map(({ status }) => status as number))

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** An internal error is always a fault; a refusal as too busy is repeated before it is judged. */
function problemFault(status: number, type: string, text: string): string | null {
  if (!type.startsWith('application/problem+json'))
    return `the status ${status} comes as ${type}, not as a problem`
  if (!isJson(text)) return 'a problem that is not JSON'
  const problem = JSON.parse(text) as {
    code: keyof typeof errorTable
    status: number
    detail: string
    instance: string
  }
  const row = errorTable[problem.code] as { status: number } | undefined
  if (row?.status !== status || problem.status !== status)
    return `the status ${status} comes with the code ${problem.code}`
  if (typeof problem.detail !== 'string' || problem.detail.length > LONGEST_DETAIL)
    return 'a problem without a sentence, or with a book'
  return status < 500 || problem.code === 'overloaded'
    ? null
    : `the service failed: ${status} ${problem.code}: ${problem.detail}`
}
