/**
 * The service in a process of its own, seen from outside: where it listens, whether it lives, what
 * memory it takes.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { memoryOf } from '../support/process-memory.js'

/** Of the service's log and last words, enough to see what it died of. */
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

  /** @param requestTimeoutMs - the service's own time limit for a request */
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

  /** How it ended: a signal or an exit code; null while it lives. */
  get ended(): string | null {
    return this.#ended
  }

  /** The end of what it wrote: errors that it logged, and what Node said when it died. */
  get output(): string {
    return this.#output
  }

  /**
   * Bytes of memory that the service and its child processes hold, files that are mapped left out;
   * null off Linux.
   */
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
