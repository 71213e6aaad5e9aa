/** The service as a process: its address, whether it lives, its memory. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { memoryOf } from '../support/process-memory.js'

/** Characters of the end of its output, enough for the cause of a crash. */
const KEPT_OUTPUT = 4000

export class ServiceProcess {
  readonly port: number
  readonly #child: ChildProcess
  readonly #folder: string
  #output = ''
  #ended: string | null = null

  private constructor(child: ChildProcess, folder: string, port: number) {
    this.#child = child
    this.#folder = folder
    this.port = port
    child.once('exit', (code, signal) => (this.#ended = String(signal ?? code)))
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on(
        'data',
        (text: Buffer) => (this.#output = (this.#output + text.toString()).slice(-KEPT_OUTPUT)),
      )
    }
  }

  /** @param requestTimeoutMs - time limit of the service for a request */
  static async start(requestTimeoutMs: number): Promise<ServiceProcess> {
    const folder = await mkdtemp(join(tmpdir(), 'tandem-fuzz-'))
    const child = fork(
      fileURLToPath(new URL('./service.js', import.meta.url)).replace(/\.js$/, '.ts'),
      [folder, String(requestTimeoutMs)],
      {
        execArgv: ['--import', new URL('../support/run-source.mjs', import.meta.url).href],
        stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      },
    )
    const [{ port }] = (await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(() =>
        Promise.reject(
          new Error(`the service did not start: ${String(child.stderr?.read() ?? '')}`),
        ),
      ),
    ])) as [{ port: number }]
    return new ServiceProcess(child, folder, port)
  }

  /** The signal or exit code of its end; null while it lives. */
  get ended(): string | null {
    return this.#ended
  }

  /** The end of its output: logged errors and the last message of Node. */
  get output(): string {
    return this.#output
  }

  /** Bytes of memory of the service and its children without mapped files; null except on Linux. */
  memory(): number | null {
    if (process.platform !== 'linux' || this.#child.pid === undefined) return null
    return memoryOf(this.#child.pid).anonymous
  }

  async close(): Promise<void> {
    if (this.#ended === null) {
      this.#child.kill('SIGKILL')
      await once(this.#child, 'exit')
    }
    await rm(this.#folder, { recursive: true, force: true })
  }
}
