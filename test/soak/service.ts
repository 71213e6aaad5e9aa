/** The built service as users run it, in processes of its own, with the shipped bundle on a fresh data folder. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import { memoryByProcess, type Memory } from '../support/process-memory.js'
import { addressWhenReady } from '../support/server-output.js'

export class Service {
  readonly address: string
  readonly #process: ChildProcess
  readonly #folder: string

  private constructor(child: ChildProcess, folder: string, address: string) {
    this.#process = child
    this.#folder = folder
    this.address = address
  }

  /** Resolves when the service says that it is ready. */
  static async start(model: string): Promise<Service> {
    const folder = await mkdtemp(join(tmpdir(), 'tandem-soak-'))
    const { PATH } = process.env
    const environment = { PATH, HOST: '127.0.0.1', PORT: '0', TANDEM_DATA_DIR: folder, TANDEM_MODEL: model, MALLOC_ARENA_MAX: '2' }
    const child = spawn(process.execPath, [join(packageFolder, 'dist', 'server.js')], {
      env: { ...environment, LOG_LEVEL: 'info' },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const address = await addressWhenReady(child.stdout)
    child.stdout.resume()
    return new Service(child, folder, address)
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  /** Of the main process and of those that it has started. */
  memory(): Map<string, Memory> {
    return memoryByProcess(this.#process.pid ?? 0)
  }

  /** The value of every series of /metrics. */
  async metrics(): Promise<Map<string, number>> {
    const text = await (await fetch(`${this.address}/metrics`)).text()
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]))
  }

  async stop(): Promise<void> {
    if (this.alive) {
      const ended = once(this.#process, 'exit')
      this.#process.kill('SIGTERM')
      await ended
    }
    await rm(this.#folder, { recursive: true, force: true })
  }
}
