/** The service from its sources, with its workers, which can be killed one by one. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import { addressWhenReady } from '../support/server-output.js'

const SUPPORT = join(packageFolder, 'test', 'support')

const MODULES = {
  inference: 'inference/worker.js',
  decoder: 'decoder-worker.js',
  hnsw: 'hnsw-worker.js',
}
export type Worker = keyof typeof MODULES
export const workers: readonly Worker[] = ['inference', 'decoder', 'hnsw']

export class Service {
  readonly address: string
  readonly #process: ChildProcess

  private constructor(child: ChildProcess, address: string) {
    this.#process = child
    this.address = address
  }

  /** Resolves when the service says that it is ready. */
  static async start(dataFolder: string, model: string): Promise<Service> {
    const program = [
      '--import',
      join(SUPPORT, 'run-source.mjs'),
      join(SUPPORT, 'snapshot-service.ts'),
    ]
    const child = spawn(process.execPath, program, {
      env: {
        PATH: process.env['PATH'],
        PORT: '0',
        TANDEM_DATA_DIR: dataFolder,
        TANDEM_MODEL: model,
      },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const address = await addressWhenReady(child.stdout)
    child.stdout.resume()
    return new Service(child, address)
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  /** Ids of the processes that run the worker now: several, where inference has several cores. */
  processes(worker: Worker): number[] {
    const lines = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n')
    const rows = lines.map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [])
    const own = rows.filter(
      ([, , ppid, args]) => Number(ppid) === this.#process.pid && args?.endsWith(MODULES[worker]),
    )
    return own.map(([, pid]) => Number(pid))
  }

  /** Sends SIGKILL to one of the worker's processes. */
  kill(worker: Worker): void {
    const [pid] = this.processes(worker)
    if (pid === undefined)
      throw new Error(`the service has no process that runs ${MODULES[worker]}`)
    process.kill(pid, 'SIGKILL')
  }

  async stop(): Promise<void> {
    if (!this.alive) return
    const ended = once(this.#process, 'exit')
    this.#process.kill('SIGTERM')
    await ended
  }
}
