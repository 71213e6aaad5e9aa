/** The process: reads the environment, listens, and stops gracefully on SIGTERM and SIGINT. */
import { buildApp, type Tandem } from './http/app.js'
import { readConfig, type Config } from './config.js'
import { exposureRemark } from './http/exposure.js'

let isStopping = false

/**
 * Starts listening before the index is repaired, so that health says what is going on; ready comes
 * last.
 */
async function serve(config: Config): Promise<void> {
  const remark = exposureRemark(config)
  const tandem = await buildApp(config)
  if (remark !== null) tandem.app.log.warn(remark)
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => void stop(tandem, config, signal))
  }
  // Without files that can be read again, a terminal that closes ends the service as ever.
  const { apiKeysFile, tlsCertFile } = config
  if (apiKeysFile !== undefined || tlsCertFile !== undefined)
    process.on('SIGHUP', () => void tandem.reload())
  const address = await tandem.app.listen({ host: config.host, port: config.port })
  try {
    await tandem.start()
  } catch (error) {
    // One that was told to stop while it waited has not failed.
    if (isStopping) return
    throw error
  }
  const what = config.role === 'encode' ? 'the encoder' : 'the search page'
  tandem.app.log.info(`ready: ${what} is at ${address}/, the API documentation at ${address}/docs`)
}

async function stop(
  { app, close }: Tandem,
  { requestTimeoutMs }: Config,
  signal: string,
): Promise<void> {
  isStopping = true
  app.log.info(`stopping on ${signal}: answering what was accepted`)
  // Whatever is still being sent or answered after the time limit of a request, such as a long
  // import, is cut off.
  const cut = setTimeout(() => app.server.closeAllConnections(), requestTimeoutMs)
  try {
    await close()
    app.log.info('stopped')
  } catch (error) {
    app.log.fatal({ err: error }, 'stopping failed')
    process.exitCode = 1
  } finally {
    clearTimeout(cut)
  }
}

try {
  await serve(readConfig(process.env))
} catch (error) {
  process.stderr.write(`tandem cannot start: ${(error as Error).message}\n`)
  process.exit(1)
}
