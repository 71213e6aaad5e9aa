/** The service, run from its sources with the tiny bundle, on a given data folder. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import sharp from 'sharp'
import { packageFolder } from '../../src/config.js'
import { addressWhenReady } from '../support/server-output.js'

const SUPPORT = join(packageFolder, 'test', 'support')

export class Service {
  readonly #process: ChildProcess
  readonly #address: string
  /** Its output. */
  readonly log: string[]

  private constructor(child: ChildProcess, address: string, log: string[]) {
    this.#process = child
    this.#address = address
    this.log = log
  }

  /**
   * Resolves when it is ready.
   * @throws Error with its log if it ends before, or is not ready after `limitMs`
   */
  static async start(dataFolder: string, limitMs = Infinity): Promise<Service> {
    const environment = {
      PATH: process.env['PATH'],
      PORT: '0',
      TANDEM_DATA_DIR: dataFolder,
      TANDEM_MODEL: join(packageFolder, 'test', 'fixtures', 'tiny-bundle'),
      INFERENCE_THREADS: '1',
    }
    const program = [
      '--import',
      join(SUPPORT, 'run-source.mjs'),
      join(SUPPORT, 'snapshot-service.ts'),
    ]
    const child = spawn(process.execPath, program, {
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const log: string[] = []
    child.stderr.on('data', (chunk: Buffer) => log.push(chunk.toString()))
    const timer = limitMs === Infinity ? undefined : setTimeout(() => child.kill(), limitMs)
    const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
    const address = await addressWhenReady(child.stdout, log).catch(async () => {
      const [code, signal] = await ended
      throw new Error(`ended with ${signal ?? `code ${code}`}:\n${log.join('\n')}`)
    })
    clearTimeout(timer)
    child.stdout.on('data', (chunk: Buffer) => log.push(chunk.toString())).resume()
    return new Service(child, address, log)
  }

  /** @returns the status, and the body if it is JSON */
  async request(
    method: string,
    path: string,
    body?: Uint8Array<ArrayBuffer> | object,
  ): Promise<{ status: number; body: unknown }> {
    const isBytes = body instanceof Uint8Array
    const response = await fetch(this.#address + path, {
      method,
      ...(body && { body: isBytes ? body : JSON.stringify(body) }),
      headers:
        body === undefined ? {} : { 'content-type': isBytes ? 'image/png' : 'application/json' },
    })
    const text = await response.text()
    return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) : null }
  }

  /** The status and the body: that of an image as base64, that of an error as its code. */
  async text(method: string, path: string): Promise<string> {
    const response = await fetch(this.#address + path, { method })
    const isImage = response.headers.get('content-type')?.startsWith('image/') === true
    const bytes = Buffer.from(await response.arrayBuffer())
    if (!response.ok)
      return `${response.status} ${(JSON.parse(bytes.toString()) as { code: string }).code}`
    return `${response.status} ${bytes.toString(isImage ? 'base64' : 'utf8')}`
  }

  /** @returns the status */
  async put(id: string, bytes: Uint8Array<ArrayBuffer>): Promise<number> {
    return (await this.request('PUT', `/items/${id}`, bytes)).status
  }

  /** Stops it as a supervisor does. @returns its exit code, or the signal that ended it */
  async stop(): Promise<number | NodeJS.Signals | null> {
    const { exitCode, signalCode } = this.#process
    if (exitCode !== null || signalCode !== null) return signalCode ?? exitCode
    this.#process.kill('SIGTERM')
    const [code, signal] = (await once(this.#process, 'exit')) as [
      number | null,
      NodeJS.Signals | null,
    ]
    return signal ?? code
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    this.#process.kill('SIGKILL')
    await once(this.#process, 'exit')
  }
}

/** A unique image for each number. Because of its noise the stored image has some tens of KiB. */
export async function image(number: number): Promise<Uint8Array<ArrayBuffer>> {
  const side = 96
  let state = number + 1
  const pixels = Uint8Array.from({ length: side * side * 3 }, (_, at) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return ((number * 40 * ((at % 3) + 1)) % 200) + (state >>> 26)
  })
  return new Uint8Array(
    await sharp(pixels, { raw: { width: side, height: side, channels: 3 } })
      .png()
      .toBuffer(),
  )
}
