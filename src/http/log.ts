/** The log of the service, and the log of requested changes (the audit). */
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import { destination, pino, stdSerializers, type DestinationStream } from 'pino'
import pretty from 'pino-pretty'
import { TandemError } from '../errors.js'

export interface AuditLog {
  log: FastifyBaseLogger
  /** Opens the file again, which may have been renamed to rotate it. */
  reopen: () => void
}

/** Readable lines where stdout is a terminal, JSON lines otherwise. */
export function openLog(level: string): FastifyBaseLogger {
  const serializers = { req: requestInLog, err: errorInLog }
  return pino({ level, serializers }, process.stdout.isTTY ? readableLines() : destination(1))
}

/**
 * @param path - a file for the lines, which are appended. Undefined for stdout: then they are not
 *   written to a terminal, nor at the level silent
 * @throws Error of the file system
 */
export function openAuditLog(path: string | undefined, level: string): AuditLog {
  const base = { audit: true }
  if (path === undefined) {
    const isOff = level === 'silent' || process.stdout.isTTY
    const log = pino({ base, level: isOff ? 'silent' : 'info' }, destination(1))
    return { log, reopen: () => undefined }
  }
  // Synchronous: a line of a change is on disk, or in the cache of the system, when a process dies.
  const file = destination({ dest: path, append: true, mkdir: true, sync: true, mode: 0o600 })
  return { log: pino({ base }, file), reopen: () => file.reopen() }
}

/** Without the query, which has texts of clients and could have a key. */
function requestInLog({ method, url, ip }: FastifyRequest): object {
  return { method, path: url.split('?')[0], remoteAddress: ip }
}

/** Without sentences that quote a request: those of its refusal, and of Fastify's second reply. */
function errorInLog(error: Error & { code?: string }): object {
  const isRefusal = error instanceof TandemError && error.status < 500
  if (!isRefusal && error.code !== 'FST_ERR_REP_ALREADY_SENT') return stdSerializers.err(error)
  return { type: error.name, code: error.code }
}

function readableLines(): DestinationStream {
  return pretty({
    colorize: process.stdout.hasColors?.() === true,
    ignore: 'pid,hostname,trace_id',
    translateTime: 'SYS:HH:MM:ss',
    singleLine: true,
    sync: true,
  })
}
