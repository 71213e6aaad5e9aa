/** HTTP calls of the encoder on persistent connections, and the kinds of its failures. */
import { Agent as HttpAgent, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { fingerprintIn } from './protocol.js'
import { TandemError } from '../../errors.js'
import { FRAME_TYPE, FrameError, readFrame, type Frame } from './frames.js'
import type { Call } from '../models.js'
import { Backoff } from '../../async/backoff.js'
import { within, withSignals } from '../../async/signals.js'
import { refusalOf, unavailable, type Answer } from './refusal.js'

export interface ConnectionOptions {
  url: string
  apiKey?: string | undefined
  timeoutMs: number
}

/** One call of the encoder and the reader of its reply. */
export interface Question<Result> {
  path: string
  frame: Buffer
  /** The bundle that the reply must come from. */
  fingerprint: string
  /** A larger reply is not read. */
  maxBytes: number
  /** @throws FrameError */
  read: (frame: Frame) => Result
}

/** Encoding changes no state, so a call may be sent again. */
const ATTEMPTS = 3
/** Codes of TLS for a certificate that is self-signed, expired, or of another name or authority. */
const UNTRUSTED = /CERT|LEAF_SIGNATURE/
const FIRST_PAUSE_MS = 50
const PROBE_MS = 2000
const MAX_PROBE_BYTES = 65_536

export class Connection {
  /** Host and port, for messages. */
  readonly host: string
  readonly #url: string
  readonly #headers: Readonly<Record<string, string>>
  readonly #timeoutMs: number
  readonly #agent: HttpAgent

  constructor({ url, apiKey, timeoutMs }: ConnectionOptions) {
    this.#url = url
    this.host = new URL(url).host
    this.#headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }
    this.#timeoutMs = timeoutMs
    this.#agent = new (url.startsWith('https:') ? HttpsAgent : HttpAgent)({
      keepAlive: true,
      maxFreeSockets: 64,
      scheduling: 'fifo',
    })
  }

  /**
   * @throws TandemError `encoder_unavailable`, `encoder_timeout`, `encoder_failed`; the encoder's
   *   error about the input or its models; the reason of the call's signal
   */
  ask<Result>(question: Question<Result>, { signal, deadline, trace }: Call): Promise<Result> {
    const headers = (): Record<string, string> => {
      const seconds =
        (deadline === undefined ? this.#timeoutMs : Math.max(1, deadline - performance.now())) /
        1000
      return {
        ...this.#headers,
        'content-type': FRAME_TYPE,
        'request-timeout': seconds.toFixed(3),
        ...(trace === undefined ? {} : { traceparent: trace.traceparent }),
        ...(trace?.tracestate === undefined ? {} : { tracestate: trace.tracestate }),
      }
    }
    const attempts = async (limited: AbortSignal): Promise<Result> => {
      const backoff = new Backoff(FIRST_PAUSE_MS)
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await this.#once(question, headers(), limited)
        } catch (error) {
          limited.throwIfAborted()
          if (!(error instanceof Passing)) throw error
          if (attempt === ATTEMPTS) throw error.cause
        }
        await sleep(backoff.jitteredMs, undefined, { signal: limited })
        backoff.double()
      }
    }
    if (deadline !== undefined) return withSignals([signal], attempts)
    const timeUp = (): TandemError =>
      new TandemError(
        'encoder_timeout',
        `The encoder at ${this.host} has not answered within ${this.#timeoutMs} ms.`,
      )
    return within(this.#timeoutMs, signal, timeUp, attempts)
  }

  /** `GET /encoder` as JSON, on a new connection: an open one may work where a new one fails. */
  async probe(): Promise<unknown> {
    const timeUp = AbortSignal.timeout(PROBE_MS)
    const answer = await this.#send(
      'GET',
      '/encoder',
      this.#headers,
      undefined,
      MAX_PROBE_BYTES,
      timeUp,
      false,
    ).catch((error: unknown) => {
      throw timeUp.aborted
        ? unavailable(`The encoder at ${this.host} has not answered within ${PROBE_MS} ms.`)
        : causeOf(error)
    })
    if (answer.status !== 200) throw refusalOf(answer, this.host).error
    try {
      return JSON.parse(answer.body.toString())
    } catch (error) {
      throw new TandemError(
        'encoder_failed',
        `The service at ${this.host} is not an encoder: its reply is not JSON.`,
        { cause: error },
      )
    }
  }

  close(): void {
    this.#agent.destroy()
  }

  async #once<Result>(
    question: Question<Result>,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Result> {
    const { path, frame, fingerprint, maxBytes, read } = question
    const answer = await this.#send('POST', path, headers, frame, maxBytes, signal, this.#agent)
    if (answer.status !== 200) {
      const { error, isPassing } = refusalOf(answer, this.host)
      throw isPassing ? new Passing(error) : error
    }
    try {
      const reply = readFrame(answer.body)
      const other = fingerprintIn(reply)
      if (other !== fingerprint) {
        throw new Passing(
          unavailable(
            `The encoder at ${this.host} serves the bundle ${other}; these items are of ${fingerprint}.`,
          ),
        )
      }
      return read(reply)
    } catch (error) {
      if (!(error instanceof FrameError)) throw error
      throw new TandemError(
        'encoder_failed',
        `The reply of the encoder at ${this.host} ${error.message}.`,
        { cause: error },
      )
    }
  }

  #send(
    method: 'GET' | 'POST',
    path: string,
    headers: Readonly<Record<string, string>>,
    body: Buffer | undefined,
    maxBytes: number,
    signal: AbortSignal,
    agent: HttpAgent | false,
  ): Promise<Answer> {
    const send = this.#url.startsWith('https:') ? requestHttps : requestHttp
    const length = body === undefined ? {} : { 'content-length': String(body.length) }
    return new Promise((resolve, reject) => {
      const failed = (error: Error & { code?: string }): void => {
        const why = error.code ?? error.message
        if (UNTRUSTED.test(why)) return reject(untrusted(this.host, why, error))
        reject(
          new Passing(
            unavailable(`The encoder at ${this.host} cannot be reached (${why}).`, error),
          ),
        )
      }
      const request = send(
        new URL(path, this.#url),
        { method, agent, signal, headers: { ...headers, ...length } },
        (response) => {
          const pieces: Buffer[] = []
          let size = 0
          response.on('data', (piece: Buffer) => {
            size += piece.length
            pieces.push(piece)
            if (size <= maxBytes) return
            reject(
              new TandemError(
                'encoder_failed',
                `The encoder at ${this.host} sent more than the expected ${maxBytes} bytes.`,
              ),
            )
            request.destroy()
          })
          response.on('error', failed)
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: Buffer.concat(pieces),
            }),
          )
        },
      )
      request.on('error', failed)
      request.end(body)
    })
  }
}

function untrusted(host: string, why: string, cause: Error): TandemError {
  const message = `The certificate of the encoder at ${host} is not trusted (${why}): set NODE_EXTRA_CA_CERTS to a file with your own authorities.`
  return new TandemError('encoder_failed', message, { cause })
}

/** A failure after which the same call may succeed. */
class Passing extends Error {
  override readonly cause: TandemError

  constructor(cause: TandemError) {
    super(cause.message)
    this.cause = cause
  }
}

function causeOf(error: unknown): unknown {
  return error instanceof Passing ? error.cause : error
}
