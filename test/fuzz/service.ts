/**
 * The process that is fuzzed: the whole service around the tiny bundle, on a folder of its own.
 * Says where it listens.
 */
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buildApp } from '../../src/http/app.js'
import { packageFolder, readConfig, type Config } from '../../src/config.js'

const [dataFolder = '', timeoutMs = ''] = process.argv.slice(2)
const config: Config = {
  ...readConfig({}),
  logLevel: 'error',
  dataFolder,
  modelFolder: join(packageFolder, 'test/fixtures/tiny-bundle'),
  inferenceThreads: 1,
  requestTimeoutMs: Number(timeoutMs),
  // These limits, and that of a text below, are small enough for mutants to reach.
  maxBodyBytes: 262_144,
  maxBatchItems: 16,
  maxImagePixels: 4_000_000,
}
const { app, start } = await buildApp(config, { limits: { maxTextChars: 2000 } })
// Lets a test see that a death is noticed, and whose fault it was.
app.server.prependListener('request', ({ headers }: IncomingMessage) => {
  if (headers['x-poison'] !== undefined) process.kill(process.pid, 'SIGSEGV')
})
await app.listen({ host: '127.0.0.1', port: 0 })
await start()
process.on('disconnect', () => process.exit())
process.send?.({ port: (app.server.address() as AddressInfo).port })
