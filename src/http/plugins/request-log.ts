/**
 * The log of one request, whose lines carry what the request is known by. Hardly any request writes
 * a line: the logger that does is made for the first one.
 */
import type { FastifyBaseLogger } from 'fastify'

/** What a line is made of, as pino takes it: an object, a message, or both. */
type Line = readonly unknown[]

export class RequestLog implements FastifyBaseLogger {
  readonly #make: () => FastifyBaseLogger
  #made: FastifyBaseLogger | undefined

  /** @param make - called once, before the first line */
  constructor(make: () => FastifyBaseLogger) {
    this.#make = make
  }

  get level(): string {
    return this.#log.level
  }

  set level(level: string) {
    this.#log.level = level
  }

  fatal(...line: Line): void {
    this.#log.fatal(...(line as [object]))
  }

  error(...line: Line): void {
    this.#log.error(...(line as [object]))
  }

  warn(...line: Line): void {
    this.#log.warn(...(line as [object]))
  }

  info(...line: Line): void {
    this.#log.info(...(line as [object]))
  }

  debug(...line: Line): void {
    this.#log.debug(...(line as [object]))
  }

  trace(...line: Line): void {
    this.#log.trace(...(line as [object]))
  }

  silent(...line: Line): void {
    this.#log.silent(...(line as [object]))
  }

  child(...given: Parameters<FastifyBaseLogger['child']>): FastifyBaseLogger {
    return this.#log.child(...given)
  }

  get #log(): FastifyBaseLogger {
    this.#made ??= this.#make()
    return this.#made
  }
}
