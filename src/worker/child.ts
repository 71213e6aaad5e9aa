/** One process of a worker, from its start to its end: numbered calls, and their answers. */
import { fork, type ChildProcess } from 'node:child_process'
import { getPriority, setPriority } from 'node:os'
import { TandemError } from '../errors.js'
import { HELLO, type Question, type Reply } from './answer-calls.js'

/** What a worker can be asked: by name, what is asked and what is answered. */
export type Commands<C> = { [Name in keyof C]: { ask: unknown; answer: unknown } }

export type Call<C extends Commands<C>> = <Name extends keyof C>(
  name: Name,
  ask: C[Name]['ask'],
) => Promise<C[Name]['answer']>

/** An error that the worker threw, known by its message alone. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
}

interface Waiting {
  resolve: (answer: never) => void
  reject: (error: Error) => void
}

/** What the workers need not know: hostile bytes reach the native code that they run. */
const SECRETS = ['API_KEYS']
/** A process that was asked to end and has not by then is killed. */
const LONGEST_FAREWELL_MS = 30_000
/**
 * Half of V8's young generation, which by default grows to 16 MiB before it is looked through: a
 * worker keeps few objects of JavaScript, and each would hold 48 MiB of ones that are long dead.
 */
const SEMI_SPACE_MIB = 2
/**
 * Steps of `nice` of workers that compute for long: the service's own event loop must not wait for
 * a core.
 */
const NICER = 5
const LEAST_PRIORITY = 19

export interface LifeOptions {
  module: URL
  environment: Readonly<Record<string, string>>
  givesWay: boolean
  /** Makes the error for calls that are not answered any more. */
  lost: () => Error
}

export class Life<C extends Commands<C>> {
  /** Resolves when the process answers; rejects with `lost` when it ends before. */
  readonly begun: Promise<unknown>
  /** Resolves when the process has ended, to a signal or an exit code. */
  readonly ended: Promise<string>
  readonly #child: ChildProcess
  readonly #lost: () => Error
  readonly #waiting = new Map<number, Waiting>()
  #calls = HELLO
  #over = false
  #onIdle: () => void = () => undefined
  #farewell: Promise<void> | undefined

  constructor({ module, environment, givesWay, lost }: LifeOptions) {
    this.#lost = lost
    const inherited = Object.entries(process.env).filter(([name]) => !SECRETS.includes(name))
    const env = { ...Object.fromEntries(inherited), ...environment }
    // Standard output belongs to the service's log; what native code prints goes to standard error.
    const execArgv = [...process.execArgv, `--max-semi-space-size=${SEMI_SPACE_MIB}`]
    this.#child = fork(module, {
      serialization: 'advanced',
      stdio: ['ignore', 2, 2, 'ipc'],
      env,
      execArgv,
    })
    if (givesWay) this.#yieldToService()
    this.begun = new Promise((resolve, reject) => this.#waiting.set(HELLO, { resolve, reject }))
    this.ended = new Promise((resolve) => {
      const end = (how: string): void => {
        this.#over = true
        for (const { reject } of this.#waiting.values()) reject(this.#lost())
        this.#waiting.clear()
        this.#onIdle()
        resolve(how)
      }
      this.#child.once('exit', (code, signal) => end(signal ?? `code ${code}`))
      // There is no exit where there was no start; of an error while sending, the exit follows.
      this.#child.on('error', (error) => this.#child.pid === undefined && end(error.message))
    })
    this.#child.on('message', (reply: Reply) => this.#settle(reply))
  }

  get pid(): number | null {
    return this.#child.pid ?? null
  }

  /** Before the process has threads, which inherit it. */
  #yieldToService(): void {
    try {
      if (this.#child.pid !== undefined)
        setPriority(this.#child.pid, Math.min(LEAST_PRIORITY, getPriority() + NICER))
    } catch {
      // It has ended already, or the system does not let it: the worker is as good as any other
      // process then.
    }
  }

  /**
   * Calls are answered in any order. @throws TandemError or Refusal as the worker threw it, `lost`
   * when it ends before
   */
  call<Name extends keyof C>(name: Name, ask: C[Name]['ask']): Promise<C[Name]['answer']> {
    return new Promise((resolve, reject) => {
      if (this.#over || !this.#child.connected) throw this.#lost()
      const number = (this.#calls += 1)
      this.#waiting.set(number, { resolve, reject })
      const question: Question = { number, name: String(name), ask }
      this.#child.send(question, (error) => {
        if (error !== null && this.#waiting.delete(number)) reject(this.#lost())
      })
    })
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  /** Waits for the answers under way, then ends the process. */
  end(): Promise<void> {
    this.#farewell ??= this.#end()
    return this.#farewell
  }

  async #end(): Promise<void> {
    const timer = setTimeout(() => this.kill(), LONGEST_FAREWELL_MS)
    if (this.#waiting.size > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
    // The worker ends by itself where its parent is gone; to ask it to end, the parent goes.
    if (this.#child.connected) this.#child.disconnect()
    await this.ended
    clearTimeout(timer)
  }

  #settle(reply: Reply): void {
    const waiting = this.#waiting.get(reply.number)
    this.#waiting.delete(reply.number)
    if ('failure' in reply) {
      const { code, message } = reply.failure
      waiting?.reject(code === null ? new Refusal(message) : new TandemError(code, message))
    } else waiting?.resolve(reply.answer as never)
    if (this.#waiting.size === 0) this.#onIdle()
  }
}
