/** The attacked process: the service from its sources, and what can be seen of it from outside. */
import { readdirSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { packageFolder } from '../../src/config.js'
import { familyOf } from '../support/process-family.js'
import { memoryOf } from '../support/process-memory.js'
import { startServer } from '../support/server-process.js'

export const GOOD_KEY = 'key-of-the-good-client'
/** Several, because limits by client must hold for those who have many keys. */
export const ATTACKER_KEYS = [1, 2, 3, 4, 5, 6].map((at) => `key-of-attacker-${at}`)

const PROBE_FILE = 'probe'
const PROBE_MS = 60_000

export class Service {
  readonly port: number
  readonly process: ChildProcess
  readonly log: string[]
  readonly #folder: string

  private constructor(child: ChildProcess, port: number, log: string[], folder: string) {
    this.process = child
    this.port = port
    this.log = log
    this.#folder = folder
  }

  /** @param model - folder of the bundle */
  static async start(model: string): Promise<Service> {
    const folder = await mkdtemp(join(tmpdir(), 'tandem-attack-'))
    const program = [
      '--import',
      join(packageFolder, 'test/support/run-source.mjs'),
      '--import',
      join(packageFolder, 'test/attack/probe.mjs'),
      join(packageFolder, 'src/server.ts'),
    ]
    const environment = {
      TANDEM_DATA_DIR: folder,
      TANDEM_MODEL: model,
      // This process would have to read its lines, and is busy.
      AUDIT_LOG: join(folder, 'audit.log'),
      PROBE_FILE: join(folder, PROBE_FILE),
      API_KEYS: [GOOD_KEY, ...ATTACKER_KEYS].join(','),
    }
    const { process: child, address, log } = await startServer(program, environment, [])
    return new Service(child, Number(new URL(address).port), log, folder)
  }

  get pid(): number {
    return this.process.pid ?? 0
  }

  get isAlive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null
  }

  /** Open files and sockets of the main process. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length
  }

  /** MiB of memory of all processes, without mapped files. */
  get memory(): number {
    return memoryOf(this.pid).anonymous / 2 ** 20
  }

  /** Milliseconds: the longest delay of the event loop since the last question to the probe. */
  async longestDelay(): Promise<number> {
    return Number(await this.#ask('delay'))
  }

  /** Collects garbage in the main process, so that `memory` is what the service holds. */
  async collectGarbage(): Promise<void> {
    await this.#ask('collect')
  }

  async #ask(question: string): Promise<string> {
    const file = join(this.#folder, PROBE_FILE)
    await rm(file, { force: true })
    await writeFile(`${file}.question`, question)
    this.process.kill('SIGUSR2')
    for (const end = performance.now() + PROBE_MS; performance.now() < end; await sleep(10)) {
      const text = await readFile(file, 'utf8').catch(() => null)
      if (text !== null) return text
    }
    throw new Error(`The service has not answered the probe (${question}).`)
  }

  /** Processes that work for the main one. */
  get children(): number[] {
    return familyOf(this.pid).slice(1)
  }

  /** Ends the service with SIGTERM. @returns milliseconds until it has ended; null for never */
  async stop(withinMs = 60_000): Promise<number | null> {
    const from = performance.now()
    const children = this.children
    if (this.isAlive) {
      const ended = once(this.process, 'exit')
      this.process.kill('SIGTERM')
      await Promise.race([ended, sleep(withinMs)])
    }
    const took = this.isAlive ? null : performance.now() - from
    for (const pid of [this.pid, ...children]) killIfAlive(pid)
    await rm(this.#folder, { recursive: true, force: true })
    return took
  }
}

function killIfAlive(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}
