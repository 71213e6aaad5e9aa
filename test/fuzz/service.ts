/** The fuzzed process: the service with the tiny bundle and a new folder. Prints its address. */
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
  // Limits small enough for mutants to reach.
  maxBodyBytes: 262_144,
  maxBatchItems: 16,
  maxImagePixels: 4_000_000,
}
const { app, start } = await buildApp(config, { limits: { maxTextChars: 2000 } })
// Lets a test check that a crash is detected and attributed.
app.server.prependListener('request', ({ headers }: IncomingMessage) => {
  if (headers['x-poison'] !== undefined) process.kill(process.pid, 'SIGSEGV')
})
await app.listen({ host: '127.0.0.1', port: 0 })
await start()
process.on('disconnect', () => process.exit())
process.send?.({ port: (app.server.address() as AddressInfo).port })
