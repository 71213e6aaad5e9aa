/**
 * DOOR: native code in a process of its own, so that what ends it does not end the service.
 *
 * The module of a worker calls `answerCalls` with what it can do; the service asks with
 * `WorkerProcess.call`. A process that dies fails the calls that it had not answered and is started
 * again, after a pause that doubles with each death.
 */
import { Backoff } from '../async/backoff.js'
import { TandemError, type ErrorCode } from '../errors.js'
import { Life, type Call, type Commands } from './child.js'

export { answerCalls } from './answer-calls.js'
export { Refusal } from './child.js'
export type { Call }

/** How one worker is, for health and metrics. */
export interface WorkerStatus {
  readonly name: string
  /** Null while there is no process. */
  readonly pid: number | null
  /** Whether it takes calls. */
  readonly ready: boolean
  /** How often a process was started after the first one. */
  readonly restarts: number
}

/** Told, as a sentence for the log, that a worker died. */
export type Report = (sentence: string) => void

export interface WorkerOptions<C extends Commands<C>> {
  name: string
  /** What the process runs. */
  module: URL
  /**
   * What a caller is told while there is no process: the error, and what the sentence is about
   * ("The model").
   */
  code: ErrorCode
  subject: string
  /** Makes a fresh process ready by calls of its own; until it resolves, others are refused. */
  open?: (call: Call<C>) => Promise<unknown>
  /** Added to what the process inherits of the service's environment. */
  environment?: Readonly<Record<string, string>>
  /**
   * Whether it computes for long at a time, and the service's own event loop goes first: by default
   * it does.
   */
  givesWay?: boolean
  report?: Report | undefined
  /** Called when a process that was ready has died, and when another one is ready in its place. */
  onLost?: () => void
  onReturn?: () => void
}

const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 30_000

export class WorkerProcess<C extends Commands<C>> {
  readonly #options: WorkerOptions<C>
  #life: Life<C> | null = null
  #ready = false
  #closed = false
  /** Whether there was a process that was ready; without one the service does not start. */
  #started = false
  #restarts = 0
  readonly #backoff = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS)
  #timer: NodeJS.Timeout | undefined

  private constructor(options: WorkerOptions<C>) {
    this.#options = options
  }

  /**
   * Starts the process and waits until it is ready. @throws what `open` throws, and Error when the
   * process dies before
   */
  static async start<C extends Commands<C>>(options: WorkerOptions<C>): Promise<WorkerProcess<C>> {
    const worker = new WorkerProcess<C>(options)
    await worker.#launch()
    worker.#started = true
    return worker
  }

  /** False while there is no process that takes calls. */
  get ready(): boolean {
    return this.#ready
  }

  get status(): WorkerStatus {
    const { name } = this.#options
    return { name, pid: this.#life?.pid ?? null, ready: this.#ready, restarts: this.#restarts }
  }

  /**
   * Asks the process. Several calls may be under way; what is asked is copied, and so is the
   * answer.
   * @param limitMs - the process is killed, and with it the other calls, when it has not answered
   *   by then
   * @throws TandemError as the worker threw it, or that the worker is not there; Refusal for any
   *   other error of the worker
   */
  call<Name extends keyof C>(
    name: Name,
    ask: C[Name]['ask'],
    limitMs?: number,
  ): Promise<C[Name]['answer']> {
    const life = this.#life
    if (life === null || !this.#ready) return Promise.reject(this.unavailable())
    const timer = limitMs === undefined ? undefined : setTimeout(() => life.kill(), limitMs)
    return life.call(name, ask).then(
      (answer) => {
        clearTimeout(timer)
        this.#backoff.reset()
        return answer
      },
      (error: unknown) => {
        clearTimeout(timer)
        throw error
      },
    )
  }

  /** What a caller is told while there is no process. */
  unavailable(): TandemError {
    const { code, subject } = this.#options
    return this.#closed
      ? new TandemError(code, `${subject} has been closed: the service is stopping.`)
      : new TandemError(code, `${subject} stopped unexpectedly and is being started again.`, {
          retryAfterS: Math.ceil(this.#backoff.ms / 1000),
        })
  }

  /** Resolves when the calls under way have been answered and the process has ended. */
  async close(): Promise<void> {
    this.#closed = true
    this.#ready = false
    clearTimeout(this.#timer)
    await this.#life?.end()
  }

  async #launch(): Promise<void> {
    const { name, module, environment = {}, givesWay = true, open } = this.#options
    const lost = (): Error =>
      this.#started
        ? this.unavailable()
        : new Error(`The ${name} process ended before it was ready.`)
    const life = new Life<C>({ module, environment, givesWay, lost })
    this.#life = life
    void life.ended.then((how) => this.#onEnd(life, how))
    try {
      await life.begun
      await open?.((command, ask) => life.call(command, ask))
    } catch (error) {
      await life.end()
      throw error
    }
    if (this.#life === life) this.#ready = !this.#closed
  }

  #onEnd({ pid }: Life<C>, how: string): void {
    const wasReady = this.#ready
    this.#ready = false
    this.#life = null
    if (this.#closed || !wasReady) return
    const { name, report, onLost } = this.#options
    report?.(
      `The ${name} process (${pid}) ended with ${how}; it is started again in ${this.#backoff.ms / 1000} s.`,
    )
    onLost?.()
    this.#restartLater()
  }

  /** Each death doubles the pause; a call that is answered resets it. */
  #restartLater(): void {
    this.#timer = setTimeout(() => {
      this.#backoff.double()
      this.#restarts += 1
      this.#launch().then(
        () => this.#ready && this.#options.onReturn?.(),
        (error: Error) => {
          if (this.#closed) return
          this.#options.report?.(
            `The ${this.#options.name} process could not be started again: ${error.message}`,
          )
          this.#restartLater()
        },
      )
    }, this.#backoff.ms)
  }
}
