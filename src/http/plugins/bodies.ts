/** Reads bodies that are needed whole, and parses those of JSON. */
import type { Readable } from 'node:stream'
import { errorCodes, type FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import { GrowingBuffer } from '../growing-buffer.js'
import { JsonTextError } from '../json/json-text.js'
import { JsonThreads, type Json } from '../json/json-threads.js'
import type { LongStrings } from '../json/long-strings.js'

declare module 'fastify' {
  interface FastifyInstance {
    jsonThreads: JsonThreads
  }
  interface FastifyRequest {
    /** What the stand-ins in a large JSON body stand for. */
    longStrings: LongStrings | undefined
  }
}

type Parsed<Value> = (error: Error | null, value?: Value) => void

/** Parses application/json, and refuses what readers could understand differently. */
export const jsonBodies = plugin(
  (app, _options, done) => {
    app.removeContentTypeParser('application/json')
    app.addContentTypeParser('application/json', readJson)
    const threads = new JsonThreads()
    app.decorate('jsonThreads', threads)
    app.decorateRequest('longStrings', undefined)
    app.addHook('onClose', (_app, closed) => {
      threads.close()
      closed()
    })
    done()
  },
  { name: 'json-bodies' },
)

/** A parser of Fastify for JSON in UTF-8. */
export function readJson(request: FastifyRequest, stream: Readable, parsed: Parsed<unknown>): void {
  readBytes(request, stream, (error, body) => {
    if (body === undefined) parsed(error)
    else parse(request, body, parsed)
  })
}

function parse(request: FastifyRequest, body: Buffer, parsed: Parsed<unknown>): void {
  if (body.length === 0) {
    if (request.routeOptions.schema?.body === undefined) return parsed(null, undefined)
    const sentence = 'The body is empty; its Content-Type is application/json.'
    return parsed(new TandemError('body_missing', sentence))
  }
  const done = (error: Error | null, value?: unknown): void => {
    // It may have been answered while a thread read its body.
    if (!request.admission.isOver) parsed(error, value)
  }
  parsedJson(request, body, 'The body').then(
    ({ value, longStrings }) => {
      request.longStrings = longStrings
      done(null, value)
    },
    (error: Error) =>
      done(
        error instanceof JsonTextError
          ? new TandemError('body_unreadable', `The body ${error.message}.`)
          : error,
      ),
  )
}

/**
 * The value of JSON that a request has. The bytes of a large one are handed over to a thread.
 *
 * @param place - of the text, in errors
 * @throws TandemError text_unreadable; JsonTextError; the reason of the request's signal
 */
export function parsedJson(
  { server, admission, call }: FastifyRequest,
  bytes: Buffer,
  place: string,
): Promise<Json> {
  return server.jsonThreads.parse(bytes, place, { client: admission.client, signal: call?.signal })
}

/**
 * The bytes of a body, counted as they arrive. Fastify would keep a list of the pieces, which needs
 * far more memory than the body where a client sends tiny ones.
 *
 * @param done - gets an error if the body is larger than its route allows, or is cut off
 */
export function readBytes(request: FastifyRequest, stream: Readable, done: Parsed<Buffer>): void {
  const { bodyLimit } = request.routeOptions
  const announced = request.headers['content-length']
  const expected = announced === undefined ? undefined : Number(announced)
  const body = new GrowingBuffer(expected)
  stream.on('data', take).on('end', end).on('error', fail)
  if (expected !== undefined && expected > bodyLimit)
    finish(new errorCodes.FST_ERR_CTP_BODY_TOO_LARGE())

  function take(piece: Buffer): void {
    if (request.admission.isOver) return finish(null)
    if (body.length + piece.length > bodyLimit)
      return finish(new errorCodes.FST_ERR_CTP_BODY_TOO_LARGE())
    body.add(piece)
    request.admission.holds(body.length)
  }
  function end(): void {
    if (expected === undefined || expected === body.length) finish(null, body.bytes())
    else finish(new errorCodes.FST_ERR_CTP_INVALID_CONTENT_LENGTH())
  }
  function fail(cause: Error): void {
    finish(Object.assign(cause, { statusCode: 400 }))
  }
  function finish(error: Error | null, bytes?: Buffer): void {
    stream.off('data', take).off('end', end).off('error', fail)
    // It was answered before its body was complete. The rest is read and dropped.
    if (request.admission.isOver) stream.on('error', () => undefined).resume()
    else done(error, bytes)
  }
}
