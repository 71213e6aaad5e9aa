/** One process of a worker, from its start to its end: numbered calls and their replies. */
import { fork, type ChildProcess as NodeChildProcess } from 'node:child_process'
import { getPriority, setPriority } from 'node:os'
import { TandemError } from '../errors.js'
import { inheritedOptions, inheritedVariables } from './environment.js'
import { watchForHang } from './hang-watch.js'
import { HELLO, type Commands, type Question, type Reply } from './messages.js'

/** An error other than TandemError that the worker threw, with its message. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
}

interface PendingCall {
  resolve: (output: never) => void
  reject: (error: Error) => void
}

/** A process that has not ended by then is killed. */
const SHUTDOWN_TIMEOUT_MS = 30_000
/**
 * Half of V8's young generation. By default it grows to 16 MiB before a collection; with typed
 * arrays behind its objects, a worker then holds 48 MiB of garbage.
 */
const SEMI_SPACE_MIB = 2
/** Steps of `nice` of workers that compute for long, so that they do not delay the event loop. */
const NICE_STEPS = 5
const LOWEST_PRIORITY = 19

/** A stopped process does not notice the end of the service, so the service kills it. */
const alive = new Set<NodeChildProcess>()
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
})

export interface ChildOptions {
  module: URL
  /** Added to what the process inherits. */
  environment: Readonly<Record<string, string>>
  lowPriority: boolean
  /** Makes the error for calls that are not answered any more. */
  lost: () => Error
}

export class ChildProcess<C extends Commands<C>> {
  /** Resolves when the process answers calls; rejects with `lost` when it ends before. */
  readonly started: Promise<unknown>
  /** Resolves when the process has ended, to its signal or exit code. */
  readonly ended: Promise<string>
  readonly #process: NodeChildProcess
  readonly #lost: () => Error
  readonly #pending = new Map<number, PendingCall>()
  #calls = HELLO
  #isOver = false
  #hung = false
  #onIdle: () => void = () => undefined
  #shutdown: Promise<void> | undefined

  constructor({ module, environment, lowPriority, lost }: ChildOptions) {
    this.#lost = lost
    this.#process = fork(module, {
      serialization: 'advanced',
      // Standard output is the service's log; native code prints to standard error.
      stdio: ['ignore', 2, 2, 'ipc'],
      env: { ...inheritedVariables(process.env), ...environment },
      execArgv: [...inheritedOptions(process.execArgv), `--max-semi-space-size=${SEMI_SPACE_MIB}`],
    })
    alive.add(this.#process)
    const { pid } = this.#process
    const isBusy = (): boolean => this.#pending.size > 0
    const unwatch =
      pid === undefined ? undefined : watchForHang(pid, isBusy, () => this.#killHung())
    if (lowPriority) this.#lowerPriority()
    this.started = new Promise((resolve, reject) => this.#pending.set(HELLO, { resolve, reject }))
    this.ended = new Promise((resolve) => {
      const end = (how: string): void => {
        this.#isOver = true
        alive.delete(this.#process)
        unwatch?.()
        for (const { reject } of this.#pending.values()) reject(this.#lost())
        this.#pending.clear()
        this.#onIdle()
        resolve(how)
      }
      this.#process.once('exit', (code, signal) =>
        end(this.#hung ? 'SIGKILL, since it hung' : (signal ?? `code ${code}`)),
      )
      // A process that could not start emits no `exit`; after an error while sending, it does.
      this.#process.on('error', (error) => this.#process.pid === undefined && end(error.message))
    })
    this.#process.on('message', (reply: Reply) => this.#settle(reply))
  }

  get pid(): number | null {
    return this.#process.pid ?? null
  }

  /** Called before the process has threads, which inherit the priority. */
  #lowerPriority(): void {
    const { pid } = this.#process
    try {
      if (pid !== undefined) setPriority(pid, Math.min(LOWEST_PRIORITY, getPriority() + NICE_STEPS))
    } catch {
      // The process has ended, or the system does not allow it; the worker does its work anyway.
    }
  }

  /**
   * Calls are answered in any order.
   * @throws TandemError or Refusal as the worker threw it; `lost` when the process ends before
   */
  call<Name extends keyof C>(name: Name, input: C[Name]['input']): Promise<C[Name]['output']> {
    return new Promise((resolve, reject) => {
      if (this.#isOver || !this.#process.connected) throw this.#lost()
      const number = (this.#calls += 1)
      this.#pending.set(number, { resolve, reject })
      const question: Question = { number, name: String(name), input }
      this.#process.send(question, (error) => {
        if (error !== null && this.#pending.delete(number)) reject(this.#lost())
      })
    })
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }

  #killHung(): void {
    this.#hung = true
    this.kill()
  }

  /** Waits for the calls in progress, then ends the process. */
  end(): Promise<void> {
    this.#shutdown ??= this.#end()
    return this.#shutdown
  }

  async #end(): Promise<void> {
    const timer = setTimeout(() => this.kill(), SHUTDOWN_TIMEOUT_MS)
    if (this.#pending.size > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
    // A worker ends when it is disconnected.
    if (this.#process.connected) this.#process.disconnect()
    await this.ended
    clearTimeout(timer)
  }

  #settle(reply: Reply): void {
    const call = this.#pending.get(reply.number)
    this.#pending.delete(reply.number)
    if ('failure' in reply) {
      const { code, message } = reply.failure
      call?.reject(code === null ? new Refusal(message) : new TandemError(code, message))
    } else call?.resolve(reply.output as never)
    if (this.#pending.size === 0) this.#onIdle()
  }
}
