/** A service of its own with the shipped bundle, over HTTP. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import { addressWhenReady } from '../../test/support/server-output.js'

export class Service {
  readonly pid: number
  readonly #process: ChildProcess
  readonly #address: string

  private constructor(child: ChildProcess, address: string) {
    this.#process = child
    this.pid = child.pid ?? 0
    this.#address = address
  }

  static async start(dataFolder: string, bundle: string): Promise<Service> {
    const fromSource = join(packageFolder, 'test', 'support', 'run-source.mjs')
    const child = spawn(process.execPath, ['--import', fromSource, join(packageFolder, 'src', 'server.ts')], {
      env: { PATH: process.env['PATH'], PORT: '0', TANDEM_DATA_DIR: dataFolder, TANDEM_MODEL: bundle },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const address = await addressWhenReady(child.stdout)
    child.stdout.resume()
    return new Service(child, address)
  }

  async put(id: string, picture: Uint8Array): Promise<void> {
    const body = new FormData()
    body.append('image', new Blob([picture]))
    body.append('payload', JSON.stringify({ title: 'A photo for the measurement', source: 'https://example.org/photos' }))
    await this.#ask(`/items/${id}`, { method: 'PUT', body })
  }

  async embed(texts: readonly string[]): Promise<void> {
    await this.#send('/embed', { inputs: texts.map((text) => ({ text })) })
  }

  async search(text: string, rerank: boolean): Promise<void> {
    await this.#send('/search', { text, rerank })
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null) return
    const ended = once(this.#process, 'exit')
    this.#process.kill('SIGTERM')
    await ended
  }

  #send(path: string, body: unknown): Promise<void> {
    const headers = { 'content-type': 'application/json' }
    return this.#ask(path, { method: 'POST', headers, body: JSON.stringify(body) })
  }

  async #ask(path: string, init: RequestInit): Promise<void> {
    const response = await fetch(this.#address + path, init)
    const said = await response.text()
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${said}`)
  }
}
