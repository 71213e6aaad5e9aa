/**
 * Native code in a process of its own, so that a crash does not end the service.
 *
 * The module of a worker calls `answerCalls` with a handler for each command; the service calls
 * `WorkerProcess.call`. A process that hangs is killed (hang-watch.ts). The death of a process
 * fails its pending calls. It is started again after a pause that doubles with each death.
 */
import { Backoff } from '../async/backoff.js'
import { TandemError, type ErrorCode } from '../errors.js'
import { ChildProcess } from './child.js'
import type { Call, Commands } from './messages.js'

/** The state of a worker, for health and metrics. */
export interface WorkerStatus {
  readonly name: string
  /** Null while there is no process. */
  readonly pid: number | null
  /** Whether it takes calls. */
  readonly ready: boolean
  /** Starts after the first one. */
  readonly restarts: number
}

/** Gets a sentence for the log. */
export type Report = (sentence: string) => void

export interface WorkerOptions<C extends Commands<C>> {
  name: string
  /** The file that the process runs. */
  module: URL
  /** Error of calls while there is no process: its code and the subject of its sentence. */
  code: ErrorCode
  subject: string
  /** Prepares each new process by calls of its own; until it resolves, other calls are refused. */
  open?: (call: Call<C>) => Promise<unknown>
  /** Added to the variables that the process inherits (environment.ts). */
  environment?: Readonly<Record<string, string>>
  /** Whether the service's event loop has priority over long computations; true by default. */
  lowPriority?: boolean
  /** Whether input may end the process: then the pause doubles only while none becomes ready. */
  diesOfInput?: boolean
  report?: Report | undefined
  /** Called when a ready process has died, and when its successor is ready. */
  onLost?: () => void
  onReturn?: () => void
}

const FIRST_PAUSE_MS = 500
const MAX_PAUSE_MS = 30_000

export class WorkerProcess<C extends Commands<C>> {
  readonly #options: WorkerOptions<C>
  readonly #backoff = new Backoff(FIRST_PAUSE_MS, MAX_PAUSE_MS)
  #child: ChildProcess<C> | null = null
  #ready = false
  #closed = false
  /** Whether the first process became ready; without it the service does not start. */
  #started = false
  #restarts = 0
  /** Whether the service ended the process to start another one. */
  #isReplaced = false
  #timer: NodeJS.Timeout | undefined
  /** Called once when the process takes calls, or none will. */
  readonly #onSettled = new Set<() => void>()

  private constructor(options: WorkerOptions<C>) {
    this.#options = options
  }

  /**
   * Starts the process and waits until it is ready.
   * @throws what `open` throws; Error when the process dies before
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
    return { name, pid: this.#child?.pid ?? null, ready: this.#ready, restarts: this.#restarts }
  }

  /**
   * Calls the process. Calls may run in parallel; input and output are copied.
   * @param limitMs - the process is killed when it has not answered by then, which fails its other
   *   calls too
   * @throws TandemError as the worker threw it, or with the code of the options while there is no
   *   process; Refusal for any other error of the worker
   */
  async call<Name extends keyof C>(
    name: Name,
    input: C[Name]['input'],
    limitMs?: number,
  ): Promise<C[Name]['output']> {
    const child = this.#child
    if (child === null || !this.#ready) throw this.unavailable()
    const timer = limitMs === undefined ? undefined : setTimeout(() => child.kill(), limitMs)
    try {
      const output = await child.call(name, input)
      this.#backoff.reset()
      return output
    } finally {
      clearTimeout(timer)
    }
  }

  /** Replaces the process at once. Its calls in progress fail. */
  restart(): void {
    if (this.#child === null) return
    this.#isReplaced = true
    this.#ready = false
    this.#child.kill()
  }

  /** Resolves when the process takes calls, when it is closed, or after `limitMs`. */
  async returned(limitMs: number): Promise<void> {
    if (this.#ready || this.#closed) return
    await new Promise<void>((resolve) => {
      const settled = (): void => {
        clearTimeout(timer)
        this.#onSettled.delete(settled)
        resolve()
      }
      const timer = setTimeout(settled, limitMs)
      this.#onSettled.add(settled)
    })
  }

  /** The error of calls while there is no process. */
  unavailable(): TandemError {
    const { code, subject } = this.#options
    return this.#closed
      ? new TandemError(code, `${subject} has been closed: the service is stopping.`)
      : new TandemError(code, `${subject} stopped unexpectedly and is being started again.`, {
          retryAfterS: Math.ceil(this.#backoff.ms / 1000),
        })
  }

  /** Resolves when the calls in progress have been answered and the process has ended. */
  async close(): Promise<void> {
    this.#closed = true
    this.#ready = false
    clearTimeout(this.#timer)
    this.#settle()
    await this.#child?.end()
  }

  async #launch(): Promise<void> {
    const { name, module, environment = {}, lowPriority = true, open } = this.#options
    const lost = (): Error =>
      this.#started
        ? this.unavailable()
        : new Error(`The ${name} process ended before it was ready.`)
    const child = new ChildProcess<C>({ module, environment, lowPriority, lost })
    this.#child = child
    void child.ended.then((how) => this.#onEnd(child, how))
    try {
      await child.started
      await open?.((command, input) => child.call(command, input))
    } catch (error) {
      await child.end()
      throw error
    }
    if (this.#child !== child) return
    this.#ready = !this.#closed
    if (this.#options.diesOfInput === true) this.#backoff.reset()
    this.#settle()
  }

  #settle(): void {
    for (const settled of this.#onSettled) settled()
  }

  #onEnd({ pid }: ChildProcess<C>, how: string): void {
    const wasReady = this.#ready
    const isReplaced = this.#isReplaced
    this.#ready = false
    this.#isReplaced = false
    this.#child = null
    if (this.#closed || !(wasReady || isReplaced)) return
    const { name, report, onLost } = this.#options
    const { ms } = this.#backoff
    if (!isReplaced)
      report?.(
        `The ${name} process (${pid}) ended with ${how}; it is started again in ${ms / 1000} s.`,
      )
    onLost?.()
    this.#restartLater(isReplaced ? 0 : ms)
  }

  /** Each death doubles the pause; a call that is answered resets it. */
  #restartLater(pauseMs: number): void {
    const { name, report, onReturn } = this.#options
    this.#timer = setTimeout(() => {
      if (pauseMs > 0) this.#backoff.double()
      this.#restarts += 1
      this.#launch().then(
        () => this.#ready && onReturn?.(),
        (error: Error) => {
          if (this.#closed) return
          report?.(`The ${name} process could not be started again: ${error.message}`)
          this.#restartLater(this.#backoff.ms)
        },
      )
    }, pauseMs)
  }
}
