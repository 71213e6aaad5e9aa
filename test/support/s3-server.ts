/**
 * An S3 server that stores objects in a folder: versitygw, which checks signatures like AWS.
 * `scripts/s3-server.sh` builds it; `VERSITYGW` is the path of another build.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { packageFolder } from '../../src/config.js'
import { freePort } from './free-port.js'

const program = process.env.VERSITYGW ?? join(packageFolder, 'test', '.tools', 'versitygw')

/** Reason to skip tests of a bucket; null if they can run. */
export const s3ServerMissing = existsSync(program)
  ? null
  : `${program} is missing: bash scripts/s3-server.sh builds it`

export const credentials = {
  AWS_ACCESS_KEY_ID: 'tandem-test',
  AWS_SECRET_ACCESS_KEY: 'a-secret-that-no-error-may-contain',
}

export class S3Server {
  readonly endpoint: string
  readonly #port: number
  readonly #folder: string
  #process: ChildProcess | undefined

  private constructor(port: number, folder: string) {
    this.endpoint = `http://127.0.0.1:${port}`
    this.#port = port
    this.#folder = folder
  }

  static async start(): Promise<S3Server> {
    const server = new S3Server(await freePort(), await mkdtemp(join(tmpdir(), 'tandem-s3-')))
    await server.resume()
    return server
  }

  /** Starts the process, also after `kill`, with the same objects. */
  async resume(): Promise<void> {
    const { AWS_ACCESS_KEY_ID: access, AWS_SECRET_ACCESS_KEY: secret } = credentials
    const options = [
      '--access',
      access,
      '--secret',
      secret,
      '--port',
      `127.0.0.1:${this.#port}`,
      '--quiet',
    ]
    const child = spawn(program, [...options, 'posix', this.#folder], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.#process = child
    let errors = ''
    child.stderr.on('data', (bytes: Buffer) => (errors += bytes.toString()))
    for (let tries = 0; !(await accepts(this.#port)); tries += 1) {
      if (child.exitCode !== null || tries > 100)
        throw new Error(`versitygw did not start: ${errors}`)
      await sleep(100)
    }
  }

  async kill(): Promise<void> {
    if (this.#process === undefined || this.#process.exitCode !== null) return
    const ended = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await ended
    this.#process = undefined
  }

  async close(): Promise<void> {
    await this.kill()
    await rm(this.#folder, { recursive: true, force: true })
  }
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
