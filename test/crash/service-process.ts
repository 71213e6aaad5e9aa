/** One life of the process that is killed, as its clients see it. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Questions, Said, State } from './child.js'
import { ARMED_VARIABLE, type Armed } from './fail-points.js'

export interface LifeOptions {
  /** Where `compileSources` put the program. */
  built: string
  dataFolder: string
  armed: Armed | null
  /** The bundle in the settings. */
  configured: string
  /** Acknowledge before writing. */
  hasty: boolean
}

/** The process ended before it answered. */
export class Killed extends Error {}

export class Life {
  /** The state after the start, or null where the process did not live to say it. */
  readonly state: Promise<State | null>
  /**
   * Resolves when the process has ended and everything that it said has been read, to how it ended.
   */
  readonly ended: Promise<number | NodeJS.Signals | null>
  readonly #child: ChildProcess
  readonly #waiting = new Map<
    number,
    { resolve: (answer: never) => void; reject: (error: Error) => void }
  >()
  #asked = 0
  #over = false

  constructor({ built, dataFolder, configured, armed, hasty }: LifeOptions) {
    const here = join(built, 'test', 'crash')
    this.#child = fork(
      join(here, 'child.js'),
      [dataFolder, configured, ...(hasty ? ['--hasty'] : [])],
      {
        // A process that is to be killed at a random moment runs the sources as they are.
        execArgv: armed === null ? [] : ['--import', pathToFileURL(join(here, 'seams.js')).href],
        env: { PATH: process.env['PATH'], [ARMED_VARIABLE]: JSON.stringify(armed) },
      },
    )
    const exit = once(this.#child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
    this.ended = Promise.all([exit, once(this.#child, 'disconnect')]).then(([[code, signal]]) => {
      this.#end()
      return signal ?? code
    })
    this.state = new Promise((resolve) => {
      this.#child.on('message', (said: Said) =>
        'state' in said ? resolve(said.state) : this.#settle(said),
      )
      void this.ended.then(() => resolve(null))
    })
  }

  /** @throws Killed when the process ends before it answers, Error when the question failed */
  ask<Name extends keyof Questions>(
    name: Name,
    ask: Questions[Name]['ask'],
  ): Promise<Questions[Name]['answer']> {
    return new Promise((resolve, reject) => {
      if (this.#over || !this.#child.connected) throw new Killed()
      const number = (this.#asked += 1)
      this.#waiting.set(number, { resolve, reject })
      this.#child.send({ number, name, ask }, (error) => error !== null && reject(new Killed()))
    })
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #settle(said: Exclude<Said, { state: State }>): void {
    const waiting = this.#waiting.get(said.number)
    this.#waiting.delete(said.number)
    if ('error' in said) waiting?.reject(new Error(said.error))
    else waiting?.resolve(said.answer as never)
  }

  #end(): void {
    this.#over = true
    for (const { reject } of this.#waiting.values()) reject(new Killed())
    this.#waiting.clear()
  }
}
