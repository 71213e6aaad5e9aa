/**
 * milvus-lite, which speaks the protocol of Milvus, in a process of its own: for tests, not for
 * speed.
 */
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

/** Whether there is one; where there is none, tests that need it are skipped. */
export const hasMilvus = program !== undefined
export const withoutMilvus = '(needs milvus-lite in test/.venv, where npm test installs it)'

export class Milvus {
  readonly port: number
  readonly #folder: string
  #process: ChildProcess | undefined

  private constructor(folder: string, port: number) {
    this.#folder = folder
    this.port = port
  }

  /** An empty one; it listens when that resolves. */
  static async start(): Promise<Milvus> {
    const milvus = new Milvus(await mkdtemp(join(tmpdir(), 'tandem-milvus-')), await freePort())
    await milvus.begin()
    return milvus
  }

  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  /** For openMilvus, but for the bundle and the images. */
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

  /** Starts it again on what it has stored. */
  async begin(): Promise<void> {
    // One worker: it has no protection of its own against writes at the same time.
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
    const said: string[] = []
    child.stderr.on('data', (text: Buffer) => said.push(text.toString()))
    for await (const line of createInterface({ input: child.stdout })) {
      if (!line.includes('listening')) continue
      child.stdout.resume()
      return
    }
    throw new Error(`milvus-lite ended before it listened:\n${said.join('')}`)
  }

  /** As when its machine fails. */
  async kill(): Promise<void> {
    const child = this.#process
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  /** Ends it and forgets what it has stored. */
  async end(): Promise<void> {
    await this.kill()
    await rm(this.#folder, { recursive: true, force: true })
  }
}
