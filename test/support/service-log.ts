/** The log of a service that runs in a process of its own. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { packageFolder } from '../../src/config.js'

/**
 * Starts a test service, runs `calls` against it, and returns all that the process wrote.
 *
 * @param calls - source with `send(method, url, payload, headers)`, `image` (base64) and `tandem`
 * @param start - whether the service is started, or only built
 */
export async function logOfService(level: string, calls: string, start = true): Promise<string> {
  const service = pathToFileURL(join(packageFolder, 'test', 'support', 'test-service.ts')).href
  const script = `
    const { startTestService } = await import(${JSON.stringify(service)})
    const settings = { logLevel: ${JSON.stringify(level)}, apiKeys: ['hunter2-secret'] }
    const tandem = await startTestService(settings, ${start})
    const image = Buffer.from('dog').toString('base64')
    const send = (method, url, payload, headers = { 'x-api-key': 'hunter2-secret' }) => tandem.app.inject({ method, url, headers, payload })
    ${calls}
    await tandem.end()
  `
  const loader = pathToFileURL(join(packageFolder, 'test', 'support', 'run-source.mjs')).href
  const child = spawn(process.execPath, ['--import', loader, '--input-type=module', '-e', script])
  const output: string[] = []
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => output.push(chunk.toString()))
  const code = await new Promise((done) => child.once('close', done))
  if (code !== 0) throw new Error(output.join(''))
  return output.join('')
}
