/** A server with the tiny bundle in a process of its own, whose log is kept. */
import { spawn, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { packageFolder } from '../../src/config.js'
import { addressWhenReady } from './server-output.js'

export interface Service {
  process: ChildProcess
  address: string
  log: string[]
}

/**
 * Resolves when the server says that it is ready.
 *
 * @param program - what Node runs
 * @param running - gets the process at once, so that it can be ended whatever comes
 * @param log - gets what it says, also before it is ready
 */
export async function startServer(
  program: readonly string[],
  environment: Readonly<Record<string, string>>,
  running: ChildProcess[],
  log: string[] = [],
): Promise<Service> {
  const child = spawn(process.execPath, program, {
    env: {
      PATH: process.env['PATH'],
      PORT: '0',
      TANDEM_MODEL: join(packageFolder, 'test/fixtures/tiny-bundle'),
      INFERENCE_THREADS: '1',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.push(child)
  child.stderr.on('data', (chunk: Buffer) => log.push(chunk.toString()))
  const address = await addressWhenReady(child.stdout, log)
  child.stdout.on('data', (chunk: Buffer) => log.push(chunk.toString())).resume()
  return { process: child, address, log }
}
