/** The built service as users run it, in processes of its own, with the shipped bundle on a fresh data folder. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { readFileSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { packageFolder } from '../../src/config.js'

export interface Memory {
  /** Bytes of all processes of the service: with the mapped pages of the store, and without. */
  resident: number
  anonymous: number
}

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
    for await (const line of createInterface({ input: child.stdout })) {
      const address = /ready: the search page is at (http:\S+)\//.exec(line)?.[1]
      if (address === undefined) continue
      child.stdout.resume()
      return new Service(child, folder, address)
    }
    throw new Error('the service ended before it was ready')
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  /** Its processes now, read from /proc: the main one and all that it has started. */
  memory(): Memory {
    const parents = new Map(processes().map((pid) => [pid, numberIn(pid, 'PPid')]))
    const own = (pid: number): boolean => pid === this.#process.pid || (parents.has(pid) && own(parents.get(pid) ?? 0))
    const pids = [...parents.keys()].filter(own)
    const sum = (name: string): number => pids.reduce((total, pid) => total + numberIn(pid, name) * 1024, 0)
    return { resident: sum('VmRSS'), anonymous: sum('RssAnon') }
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

function processes(): number[] {
  return readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []))
}

/** A number of /proc/PID/status; 0 where the process has ended meanwhile. */
function numberIn(pid: number, name: string): number {
  try {
    return Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}
