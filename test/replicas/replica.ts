import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import { addressWhenReady } from '../support/server-output.js'

/** A service on a shared collection: the built server in a process of its own. */
export class Replica {
  readonly #environment: Readonly<Record<string, string>>
  #process: ChildProcess | undefined
  #address = ''

  /** @param environment - settings in addition to the common ones */
  constructor(environment: Readonly<Record<string, string>>) {
    this.#environment = environment
  }

  /** Empty before the first start; changes with each start. */
  get address(): string {
    return this.#address
  }

  /** Resolves when the service is ready. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [join(packageFolder, 'dist', 'server.js')], {
      env: {
        PATH: process.env['PATH'],
        HOST: '127.0.0.1',
        PORT: '0',
        INFERENCE_THREADS: '1',
        VECTOR_INDEX: 'milvus',
        TANDEM_MODEL: join(packageFolder, 'test', 'fixtures', 'tiny-bundle'),
        ...this.#environment,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#process = child
    this.#address = await addressWhenReady(child.stdout)
    child.stdout.resume()
  }

  /** Resolves after a clean shutdown. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM')
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }
}
