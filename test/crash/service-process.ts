/** The process that is killed, as its clients see it. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Message, Requests, State } from './child.js'
import { ARMED_VARIABLE, type Armed } from './fail-points.js'

export interface ServiceProcessOptions {
  /** Folder of `compileSources`. */
  compiled: string
  dataFolder: string
  armed: Armed | null
  /** The bundle in the settings. */
  configured: string
  earlyAcknowledgement: boolean
}

/** The process ended before it replied. */
export class Killed extends Error {}

export class ServiceProcess {
  /** The state after the start; null if the process ended before it sent one. */
  readonly state: Promise<State | null>
  /** Signal or exit code, when the process has ended and all its messages were read. */
  readonly ended: Promise<number | NodeJS.Signals | null>
  /** When its worker processes have ended, too. */
  readonly gone: Promise<unknown>
  readonly #child: ChildProcess
  readonly #pending = new Map<
    number,
    { resolve: (result: never) => void; reject: (error: Error) => void }
  >()
  #requests = 0
  #hasEnded = false

  constructor({
    compiled,
    dataFolder,
    configured,
    armed,
    earlyAcknowledgement,
  }: ServiceProcessOptions) {
    const folder = join(compiled, 'test', 'crash')
    this.#child = fork(
      join(folder, 'child.js'),
      [dataFolder, configured, ...(earlyAcknowledgement ? ['--early-acknowledgement'] : [])],
      {
        // A process that is killed at a random moment runs the unchanged sources.
        execArgv:
          armed === null
            ? []
            : ['--import', pathToFileURL(join(folder, 'inject-fail-points.js')).href],
        env: { PATH: process.env['PATH'], [ARMED_VARIABLE]: JSON.stringify(armed) },
        stdio: ['inherit', 'inherit', 'pipe', 'ipc'],
      },
    )
    // Workers inherit the pipe, which closes with the last process that has it.
    this.gone = once(this.#child, 'close')
    this.#child.stderr?.pipe(process.stderr, { end: false })
    const exit = once(this.#child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
    this.ended = Promise.all([exit, once(this.#child, 'disconnect')]).then(([[code, signal]]) => {
      this.#end()
      return signal ?? code
    })
    this.state = new Promise((resolve) => {
      this.#child.on('message', (message: Message) =>
        'state' in message ? resolve(message.state) : this.#settle(message),
      )
      void this.ended.then(() => resolve(null))
    })
  }

  /** @throws Killed if the process ends before it replies; Error if the request fails */
  request<Name extends keyof Requests>(
    name: Name,
    parameters: Requests[Name]['parameters'],
  ): Promise<Requests[Name]['result']> {
    return new Promise((resolve, reject) => {
      if (this.#hasEnded || !this.#child.connected) throw new Killed()
      const number = (this.#requests += 1)
      this.#pending.set(number, { resolve, reject })
      this.#child.send(
        { number, name, parameters },
        (error) => error !== null && reject(new Killed()),
      )
    })
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #settle(message: Exclude<Message, { state: State }>): void {
    const request = this.#pending.get(message.number)
    this.#pending.delete(message.number)
    if ('error' in message) request?.reject(new Error(message.error))
    else request?.resolve(message.result as never)
  }

  #end(): void {
    this.#hasEnded = true
    for (const { reject } of this.#pending.values()) reject(new Killed())
    this.#pending.clear()
  }
}
