/** The built service in its own processes, on loopback. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageFolder } from '../src/config.js'
import { familyOf, orEmpty } from '../test/support/process-family.js'
import { memoryByProcess, type Memory } from '../test/support/process-memory.js'
import { addressWhenReady } from '../test/support/server-output.js'

export interface ServiceOptions {
  /** A folder of `models/`, or a path. */
  bundle: string
  /** Data folder, kept when the service stops; by default a new one that is removed. */
  folder?: string
}

export class Service {
  readonly address: string
  readonly pid: number
  readonly #process: ChildProcess
  /** Removed when it stops. */
  readonly #ownFolder: string | null

  private constructor(child: ChildProcess, ownFolder: string | null, address: string) {
    this.#process = child
    this.#ownFolder = ownFolder
    this.address = address
    this.pid = child.pid ?? 0
  }

  /** Resolves when the service is ready. Needs `npm run build` first. */
  static async start({ bundle, folder }: ServiceOptions): Promise<Service> {
    const data = folder ?? (await mkdtemp(join(tmpdir(), 'tandem-bench-')))
    const { PATH } = process.env
    const env = {
      PATH,
      HOST: '127.0.0.1',
      PORT: '0',
      TANDEM_DATA_DIR: data,
      TANDEM_MODEL: bundle,
      MALLOC_ARENA_MAX: '2',
    }
    const child = spawn(process.execPath, [join(packageFolder, 'dist', 'server.js')], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const address = await addressWhenReady(child.stdout)
    child.stdout.resume()
    return new Service(child, folder === undefined ? data : null, address)
  }

  get alive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  /** Of the main process and its children. */
  memory(): Map<string, Memory> {
    return memoryByProcess(this.pid)
  }

  /** Bytes of all processes; shared pages count once. */
  proportionalBytes(): number {
    const kibibytes = familyOf(this.pid).map((member) => {
      const [rollup = ''] = orEmpty(() => [readFileSync(`/proc/${member}/smaps_rollup`, 'utf8')])
      return Number(/^Pss:\s*(\d+) kB/m.exec(rollup)?.[1] ?? 0)
    })
    return 1024 * kibibytes.reduce((sum, one) => sum + one, 0)
  }

  /** The value of every series of /metrics. */
  async metrics(): Promise<Map<string, number>> {
    const text = await (await fetch(`${this.address}/metrics`)).text()
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    return new Map(
      lines.map((line) => [
        line.slice(0, line.lastIndexOf(' ')),
        Number(line.slice(line.lastIndexOf(' '))),
      ]),
    )
  }

  async put(id: string, image: Uint8Array): Promise<void> {
    const body = new FormData()
    body.append('image', new Blob([image]))
    body.append(
      'payload',
      JSON.stringify({
        title: 'A photo for the measurement',
        source: 'https://example.org/photos',
      }),
    )
    await this.#ask(`/items/${id}`, { method: 'PUT', body })
  }

  async embed(texts: readonly string[]): Promise<void> {
    await this.#send('/embed', { inputs: texts.map((text) => ({ text })) })
  }

  async search(text: string, rerank: boolean): Promise<void> {
    await this.#send('/search', { text, rerank })
  }

  async stop(): Promise<void> {
    if (this.alive) {
      const ended = once(this.#process, 'exit')
      this.#process.kill('SIGTERM')
      await ended
    }
    if (this.#ownFolder !== null) await rm(this.#ownFolder, { recursive: true, force: true })
  }

  #send(path: string, body: unknown): Promise<void> {
    const headers = { 'content-type': 'application/json' }
    return this.#ask(path, { method: 'POST', headers, body: JSON.stringify(body) })
  }

  async #ask(path: string, init: RequestInit): Promise<void> {
    const response = await fetch(this.address + path, init)
    const said = await response.text()
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${said}`)
  }
}
