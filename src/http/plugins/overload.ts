/**
 * Keeps the service responsive under more load than it can handle: a limited number of requests at
 * a time, fewer of those that can wait, a time limit for each, a limit of the bytes that clients
 * make it hold, and no work for clients that left.
 */
import { setMaxListeners } from 'node:events'
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import plugin from 'fastify-plugin'
import { TandemError } from '../../errors.js'
import type { Call } from '../../retrieval/retrieval.js'
import { ByteBudget, type Holding } from '../byte-budget.js'
import { timeLimitOf } from './deadline.js'
import { Permits, type Refusal } from './permits.js'
import { clientOf } from './rate-limit.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Takes no permit: it must answer also when the service is busy. */
    permit?: false
    /** The handler takes the permit, once the body has told it the client. */
    beginsItself?: true
    /** Has no time limit: it streams, and its parts are limited instead. */
    timeLimit?: false
    /** `bulk` for work that can wait while clients wait for answers; `interactive` by default. */
    priority?: Call['priority']
  }
  interface FastifyRequest {
    /**
     * The context of calls to the model; undefined where the route takes no permit. The signal
     * fires when the client has closed the connection or the time is up. (Fastify's own
     * `request.signal` fires already when the body has been read.)
     */
    call: Call | undefined
    admission: Admission
  }
}

/** Whether requests can be answered; read by /health/ready and by every route with a permit. */
export interface Readiness {
  state: 'starting' | 'ready' | 'stopping'
  /** The reason, for /health/ready. */
  detail: string
}

export interface OverloadOptions {
  maxConcurrentRequests: number
  maxConcurrentBulkRequests: number
  /** Of all bodies and unread answers; small ones are not counted. */
  maxHeldBytes: number
  requestTimeoutMs: number
  readiness: Readiness
}

const RETRY_AFTER_S = 1
/** Bytes of a body or an answer that are not counted: connections bound their number. */
const SMALL_BYTES = 65_536

/**
 * What one request takes from the others: a permit from the moment its body is there until it is
 * answered, and the bytes of its body. A body that arrives slowly thus holds no permit.
 */
class Admission {
  readonly client: string
  readonly #permits: Permits
  readonly #bytes: ByteBudget
  readonly #request: FastifyRequest
  readonly #reply: FastifyReply
  readonly #taken: (() => void)[] = []
  #holding: Holding | undefined
  #isOver = false

  constructor(permits: Permits, bytes: ByteBudget, request: FastifyRequest, reply: FastifyReply) {
    this.client = clientOf(request)
    this.#permits = permits
    this.#bytes = bytes
    this.#request = request
    this.#reply = reply
  }

  /** Whether the request is answered. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** Refuses early, before the body is read. @throws TandemError `overloaded` */
  check(): void {
    const refusal = this.#permits.refusal(this.#priority, this.client)
    if (refusal !== null) throw overloaded(refusal)
  }

  /**
   * Call it once when the body is complete.
   *
   * @param client - the client that the sender of the request works for
   * @throws TandemError `overloaded`
   */
  begin(client = this.client): void {
    this.#take(this.#priority, client)
    if (this.#holding !== undefined) this.#bytes.keep(this.#holding)
  }

  /**
   * The call of a request whose body makes it bulk; takes a bulk permit.
   * @throws TandemError `overloaded`
   */
  asBulk(): Call | undefined {
    this.#take('bulk')
    return { ...this.#request.call, priority: 'bulk' }
  }

  /**
   * Does a part of the work of a stream, which has a permit for as long as that takes.
   * @throws the reason of the request's signal, while it waits for a permit; what `work` throws
   */
  async inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const { signal } = this.#request.call ?? {}
    const giveBack = await this.#permits.wait(this.#priority, this.client, signal)
    try {
      return await work()
    } finally {
      giveBack()
    }
  }

  /** Counts the bytes of the body that are in memory. Beyond the limit, the largest is refused. */
  holds(bytes: number): void {
    if (this.#isOver) return
    if (this.#holding !== undefined) this.#bytes.resize(this.#holding, bytes)
    else if (bytes > SMALL_BYTES) {
      // Assigned before the bytes count, because that may end it.
      this.#holding = this.#bytes.add(this.client, () => this.#evict())
      this.#bytes.resize(this.#holding, bytes)
    }
  }

  /** Gives back what was taken; `answerBytes` are held until the client has read them. */
  end(answerBytes = 0): void {
    if (this.#isOver) return
    this.#isOver = true
    for (const giveBack of this.#taken.splice(0)) giveBack()
    if (this.#holding !== undefined) this.#bytes.release(this.#holding)
    const { socket } = this.#request.raw
    if (answerBytes <= SMALL_BYTES || socket.destroyed) return
    const answer = this.#bytes.add(this.client, () => socket.destroy())
    onceOver(this.#reply, () => this.#bytes.release(answer))
    this.#bytes.resize(answer, answerBytes)
  }

  get #priority(): NonNullable<Call['priority']> {
    return this.#request.routeOptions.config.priority ?? 'interactive'
  }

  #take(priority: NonNullable<Call['priority']>, client = this.client): void {
    if (this.#isOver) return
    const permit = this.#permits.take(priority, client)
    if (typeof permit !== 'function') throw overloaded(permit)
    this.#taken.push(permit)
  }

  #evict(): void {
    const error = overloaded({
      reason: 'held_bytes',
      sentence:
        'The requests in progress have too many bytes, most of them of this client; try again shortly.',
    })
    if (!this.#reply.sent) this.#reply.header('connection', 'close').send(error)
  }
}

export const overload = plugin<OverloadOptions>(
  (app, options, done) => {
    const { requestTimeoutMs, readiness } = options
    const permits = new Permits({
      interactive: options.maxConcurrentRequests,
      bulk: options.maxConcurrentBulkRequests,
    })
    const bytes = new ByteBudget(options.maxHeldBytes)

    function callOf(request: FastifyRequest, reply: FastifyReply): Call {
      const { priority = 'interactive', timeLimit } = request.routeOptions.config
      const milliseconds = timeLimitOf(request, timeLimit === false ? undefined : requestTimeoutMs)
      const deadline = milliseconds === undefined ? undefined : performance.now() + milliseconds
      const { client } = request.admission
      const { trace, onStage } = request
      return { signal: signalFor(reply, milliseconds), priority, client, deadline, trace, onStage }
    }

    app.decorateRequest('call', undefined)
    app.decorateRequest('admission', null as unknown as Admission)
    app.addHook('onRequest', (request, reply, next) => {
      const { open, permit } = request.routeOptions.config
      request.admission = new Admission(permits, bytes, request, reply)
      if (open === true || permit === false) return next()
      // Before its body, which no route reads.
      if (request.is404) return next(app.unmatched(request, reply))
      if (readiness.state !== 'ready') {
        const sentence = `The service is ${readiness.state}: ${readiness.detail}.`
        return next(new TandemError('not_ready', sentence, { retryAfterS: RETRY_AFTER_S }))
      }
      try {
        request.admission.check()
        request.call = callOf(request, reply)
      } catch (error) {
        return next(error as TandemError)
      }
      next()
    })
    app.addHook('preValidation', (request, _reply, next) => {
      const isLater = request.routeOptions.config.beginsItself === true || isReadByRoute(request)
      if (request.call === undefined || isLater) return next()
      try {
        request.admission.begin()
        next()
      } catch (error) {
        next(error as TandemError)
      }
    })
    app.addHook('onSend', (request, reply, payload, next) => {
      // A stop waits for every connection to end, and clients keep theirs open.
      if (readiness.state === 'stopping') reply.header('connection', 'close')
      request.admission?.end(request.call === undefined ? 0 : lengthOf(payload))
      next()
    })
    done()
  },
  { name: 'overload', dependencies: ['problems', 'tracing', 'identity'] },
)

function overloaded({ reason, sentence }: Refusal): TandemError {
  return new TandemError('overloaded', sentence, { retryAfterS: RETRY_AFTER_S, reason })
}

/** Whether the handler reads the body: a form, or a stream of lines. */
function isReadByRoute({ headers, body, routeOptions }: FastifyRequest): boolean {
  if (body instanceof Readable) return true
  const isForm = headers['content-type']?.startsWith('multipart/') === true
  return isForm && routeOptions.schema?.body !== undefined
}

function lengthOf(payload: unknown): number {
  return typeof payload === 'string' || Buffer.isBuffer(payload) ? payload.length : 0
}

/** @param milliseconds - undefined for no limit */
function signalFor(reply: FastifyReply, milliseconds: number | undefined): AbortSignal {
  const controller = new AbortController()
  // Each input of a request listens; Node warns of more than ten listeners.
  setMaxListeners(0, controller.signal)
  const onTime = (): void => {
    const sentence = `The request was not answered within ${milliseconds} ms.`
    const error = new TandemError('timed_out', sentence, { retryAfterS: RETRY_AFTER_S })
    controller.abort(error)
    if (!reply.sent) reply.send(error)
  }
  const timer = milliseconds === undefined ? undefined : setTimeout(onTime, milliseconds)
  onceOver(reply, () => {
    clearTimeout(timer)
    reply.request.admission.end()
    if (!reply.raw.writableFinished) controller.abort()
  })
  return controller.signal
}

/**
 * Calls `listener` once: when the reply is finished, or its connection closes. On Node 20 a reply
 * that waits behind another one emits no `close` when the socket is destroyed.
 */
function onceOver({ request, raw }: FastifyReply, listener: () => void): void {
  const { socket } = request.raw
  const over = (): void => {
    raw.off('close', over)
    socket.off('close', over)
    listener()
  }
  raw.once('close', over)
  socket.once('close', over)
}
