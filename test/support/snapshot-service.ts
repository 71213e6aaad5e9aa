/**
 * The service with a snapshot of the index each second, for tests that interrupt snapshots. Reads
 * its settings from the environment.
 */
import { readConfig } from '../../src/config.js'
import { buildApp } from '../../src/http/app.js'

const config = readConfig(process.env)
const { app, start, close } = await buildApp(config, { limits: { snapshotIntervalMs: 1000 } })
process.once('SIGTERM', () => void close())
const address = await app.listen({ host: config.host, port: config.port })
await start()
app.log.info(`ready: the search page is at ${address}/`)
