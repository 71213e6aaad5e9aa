import type { FastifyBaseLogger } from 'fastify'
import type { ErrorCode } from '../errors.js'

const INTERVAL_MS = 10_000

/**
 * Logs that requests are refused: the first one at once, the number of the following ones every ten
 * seconds. A line for each would let one client write megabytes a second.
 */
export class RefusalLog {
  readonly #log: Pick<FastifyBaseLogger, 'warn'>
  readonly #counts = new Map<ErrorCode, number>()
  #timer: NodeJS.Timeout | undefined

  constructor(log: Pick<FastifyBaseLogger, 'warn'>) {
    this.#log = log
  }

  add(code: ErrorCode): void {
    this.#counts.set(code, (this.#counts.get(code) ?? 0) + 1)
    if (this.#timer === undefined) this.#write()
  }

  #write(): void {
    this.#timer = undefined
    if (this.#counts.size === 0) return
    this.#log.warn(Object.fromEntries(this.#counts), 'requests were refused')
    this.#counts.clear()
    this.#timer = setTimeout(() => this.#write(), INTERVAL_MS).unref()
  }
}
