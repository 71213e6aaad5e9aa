/** Answers what the HTTP parser could not read: no request exists then, only a socket. */
import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { TandemError } from '../errors.js'
import { problemOf } from './problems.js'

/** Node's own field: the reply that is being written on this socket. */
interface ReplyingSocket extends Socket {
  _httpMessage?: { headersSent: boolean } | null
}

export function answerClientError(error: Error & { code?: string }, socket: ReplyingSocket): void {
  // Nobody is there to read an answer, or one has begun already.
  if (error.code === 'ECONNRESET' || !socket.writable || socket._httpMessage?.headersSent === true) {
    socket.destroy()
    return
  }
  const known =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new TandemError(
          'headers_too_large',
          'The address and headers are larger than 16 KiB; send long texts with POST /search.',
        )
      : new TandemError('request_unreadable', 'What arrived is not a valid HTTP request.')
  const body = JSON.stringify(problemOf(known, randomUUID()))
  const head = [
    `HTTP/1.1 ${known.status} ${STATUS_CODES[known.status]}`,
    'content-type: application/problem+json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}
