/** The service as a process: listens, and stops gracefully on SIGTERM and SIGINT. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { buildApp, type Tandem } from './http/app.js'
import { readConfig, type Config } from './config.js'
import { announceService } from './files/lock.js'
import { startHealthServer } from './http/health-server.js'
import { exposureRemark, isLoopback } from './http/exposure.js'

let isStopping = false

/** After the time limit of requests: to save the index and to end the workers. */
const STOP_MARGIN_MS = 14_000

/** Listens before the index is repaired, so that `/health` can report the progress. */
async function serve(config: Config): Promise<void> {
  const remark = exposureRemark(config)
  const { host, port, healthPort } = config
  // Told before the model is loaded, which takes seconds.
  await checkFree(host, port, 'PORT')
  await checkFree(host, healthPort, 'HEALTH_PORT')
  const tandem = await buildApp(config)
  if (remark !== null) tandem.app.log[isLoopback(config.host) ? 'info' : 'warn'](remark)
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => void stop(tandem, config, signal))
  }
  // Without files to reload, SIGHUP ends the process, as when its terminal closes.
  const { apiKeysFile, tlsCertFile, auditLog } = config
  if ([apiKeysFile, tlsCertFile, auditLog].some((file) => file !== undefined))
    process.on('SIGHUP', () => void tandem.reload())
  if (healthPort !== 0) await startHealthServer(tandem.app, { host, port: healthPort })
  const address = await tandem.app.listen({ host, port })
  if (tandem.retrieval.maintenance !== null)
    await announceService(
      config.dataFolder,
      address.replace(/\/\/(0\.0\.0\.0|\[::\])/, '//127.0.0.1'),
    )
  try {
    await tandem.start()
  } catch (error) {
    // A signal during the start is no failure.
    if (isStopping) return
    throw error
  }
  const subject = config.role === 'encode' ? 'the encoder' : 'the search page'
  tandem.app.log.info(
    `ready: ${subject} is at ${address}/, the API documentation at ${address}/docs`,
  )
  if (process.stdout.isTTY) process.stdout.write(`\n  ${address}/\n\n`)
}

/** @throws Error when another program listens on the port, or this one may not */
async function checkFree(host: string, port: number, setting: string): Promise<void> {
  const probe = createServer()
  try {
    probe.listen({ host, port })
    await once(probe, 'listening')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const sentence =
      code === 'EADDRINUSE'
        ? `Another program uses port ${port} of ${host}; choose another one with ${setting}.`
        : `Port ${port} of ${host} cannot be used: ${message}.`
    throw new Error(sentence, { cause: error })
  } finally {
    probe.close()
  }
}

async function stop(
  { app, close }: Tandem,
  { requestTimeoutMs }: Config,
  signal: string,
): Promise<void> {
  isStopping = true
  app.log.info(`stopping on ${signal}: answering accepted requests`)
  // Closes connections that outlast the time limit of a request, such as a long import.
  const timer = setTimeout(() => app.server.closeAllConnections(), requestTimeoutMs)
  const lastTimer = setTimeout(() => {
    app.log.fatal('stopping takes too long: the service ends without saving the index')
    process.exit(1)
  }, requestTimeoutMs + STOP_MARGIN_MS).unref()
  try {
    await close()
    app.log.info('stopped')
  } catch (error) {
    app.log.fatal({ err: error }, 'stopping failed')
    process.exitCode = 1
  } finally {
    clearTimeout(timer)
    clearTimeout(lastTimer)
  }
}

try {
  await serve(readConfig(process.env))
} catch (error) {
  process.stderr.write(`tandem cannot start: ${(error as Error).message}\n`)
  process.exit(1)
}
