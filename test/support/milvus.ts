import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { packageFolder } from '../../src/config.js'
import { freePort } from './free-port.js'

const program = [
  process.env['MILVUS_LITE'],
  join(packageFolder, 'test', '.venv', 'bin', 'milvus-lite'),
].find((path) => path !== undefined && existsSync(path))

/** Whether milvus-lite is installed; tests that need it are skipped otherwise. */
export const hasMilvus = program !== undefined
export const withoutMilvus = '(needs milvus-lite in test/.venv, where npm test installs it)'

/** A process of milvus-lite, which speaks the protocol of Milvus. */
export class Milvus {
  readonly port: number
  readonly #folder: string
  #process: ChildProcess | undefined

  private constructor(folder: string, port: number) {
    this.#folder = folder
    this.port = port
  }

  /** Starts an empty server; resolves when it listens. */
  static async start(): Promise<Milvus> {
    const milvus = new Milvus(await mkdtemp(join(tmpdir(), 'tandem-milvus-')), await freePort())
    await milvus.begin()
    return milvus
  }

  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  /** The options of `openMilvus` apart from those of bundle and images. */
  get settings() {
    const { address } = this
    return {
      address,
      token: undefined,
      database: undefined,
      collection: 'tandem',
      timeoutMs: 5000,
    }
  }

  /** Starts the process on the existing data. */
  async begin(): Promise<void> {
    // One worker: milvus-lite does not guard against concurrent writes.
    const options = [
      '--data-dir',
      this.#folder,
      '--host',
      '127.0.0.1',
      '--port',
      String(this.port),
      '--max-workers',
      '1',
    ]
    const child = spawn(program ?? '', ['server', ...options], {
      env: { PATH: process.env['PATH'], PYTHONUNBUFFERED: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#process = child
    const errors: string[] = []
    child.stderr.on('data', (text: Buffer) => errors.push(text.toString()))
    for await (const line of createInterface({ input: child.stdout })) {
      if (!line.includes('listening')) continue
      child.stdout.resume()
      return
    }
    throw new Error(`milvus-lite ended before it listened:\n${errors.join('')}`)
  }

  /** Kills the process, as a failure of its machine would. */
  async kill(): Promise<void> {
    const child = this.#process
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  /** Ends the process and removes its data. */
  async end(): Promise<void> {
    await this.kill()
    await rm(this.#folder, { recursive: true, force: true })
  }
}
