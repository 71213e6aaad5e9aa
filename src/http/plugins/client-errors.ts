/** Answers bytes that are no HTTP request, or arrived too slowly: there is only a socket then. */
import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { TandemError } from '../../errors.js'
import { problemOf } from './problems.js'

/** Node's own field: the reply that this socket is sending. */
interface ReplyingSocket extends Socket {
  _httpMessage?: { headersSent: boolean } | null
}

/** The handler of `clientError` of the server. */
export function answerClientError(error: Error & { code?: string }, socket: ReplyingSocket): void {
  // No client can read an answer, as before a TLS handshake; or an answer has begun already.
  const isHttp =
    error.code?.startsWith('HPE_') === true || error.code?.startsWith('ERR_HTTP_') === true
  if (!isHttp || !socket.writable || socket._httpMessage?.headersSent === true) {
    socket.destroy()
    return
  }
  const known = knownError(error.code)
  const body = JSON.stringify(problemOf(known, randomUUID()))
  const head = [
    `HTTP/1.1 ${known.status} ${STATUS_CODES[known.status]}`,
    'content-type: application/problem+json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n${body}`)
  // After end() alone, a client that does not close its half would keep the connection.
  socket.destroySoon()
}

function knownError(code: string | undefined): TandemError {
  if (code === 'HPE_HEADER_OVERFLOW') return new TandemError('headers_too_large')
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new TandemError('request_too_slow', 'The head of a request did not arrive in time.')
  }
  return new TandemError('request_unreadable')
}
