/** A server process with the tiny bundle, and its log. */
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
 * Resolves when the server is ready.
 *
 * @param program - arguments of Node
 * @param running - receives the process at once, so that the caller can always end it
 * @param log - receives the output, also before the server is ready
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
