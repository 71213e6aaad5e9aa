/** The service that a command calls: a running one, or one that the command starts for itself. */
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildApp } from '../http/app.js'
import type { Config } from '../config.js'
import { announcedService } from '../files/lock.js'
import { Client } from './client.js'
import type { ServiceOptions } from './options.js'
import { printLine, type Terminal } from './terminal/terminal.js'

export interface Service {
  client: Client
  close(): Promise<void>
}

/**
 * Calls the service at `--url`, or the one that runs on the data folder, or one that is started for
 * `work` and ends with it.
 *
 * @param terminal - is told which one, if it is one
 */
export async function withService<Result>(
  { url, key }: ServiceOptions,
  config: Config,
  work: (client: Client) => Promise<Result>,
  terminal?: Pick<Terminal, 'err'>,
): Promise<Result> {
  const tell = (line: string): void => {
    if (terminal?.err.isTTY === true) printLine(terminal.err, line)
  }
  const running = url ?? (await announcedService(config.dataFolder))
  if (running !== null) {
    if (url === undefined)
      tell(`Asking the service at ${running}, which runs on ${config.dataFolder}.`)
    return work(new Client(running, key ?? config.apiKeys[0]))
  }
  tell(
    `Loading the model and the items of ${config.dataFolder}; a service that runs answers at once.`,
  )
  const service = await ownService(config)
  try {
    return await work(service.client)
  } finally {
    await service.close()
  }
}

/** Calls a service on an empty temporary data folder, which is removed afterwards. */
export async function withEmptyService<Result>(
  config: Config,
  work: (client: Client) => Promise<Result>,
): Promise<Result> {
  const dataFolder = await mkdtemp(join(tmpdir(), 'tandem-'))
  const onInterrupt = (): void => {
    rmSync(dataFolder, { recursive: true, force: true })
    process.exit(130)
  }
  process.once('SIGINT', onInterrupt)
  try {
    return await withService({}, { ...config, dataFolder, port: 0 }, work)
  } finally {
    process.off('SIGINT', onInterrupt)
    await rm(dataFolder, { recursive: true })
  }
}

/** The address of a service with these settings. */
export function configuredUrl({ host, port }: Config): string {
  const reached = ['0.0.0.0', '::'].includes(host) ? '127.0.0.1' : host
  return `http://${reached.includes(':') ? `[${reached}]` : reached}:${port}`
}

/**
 * Refuses if the configured address answers: the error names the option for that service. The lock
 * of the data folder finds a service at another address.
 */
async function refuseWhileServing(config: Config): Promise<void> {
  const url = configuredUrl(config)
  if (config.port !== 0 && (await new Client(url).isAlive())) {
    throw new Error(`A service runs already at ${url}: give --url ${url} to use it.`)
  }
}

/**
 * Starts a service on a free loopback port, with a random key.
 *
 * @throws Error when the bundle or the data folder cannot be opened, or a service runs already at
 *   the configured address
 */
export async function ownService(config: Config): Promise<Service> {
  await refuseWhileServing(config)
  const key = randomBytes(24).toString('hex')
  const own = { host: '127.0.0.1', port: 0, logLevel: 'silent', apiKeys: [key] } as const
  const without = { apiKeysFile: undefined, tlsCertFile: undefined, tlsKeyFile: undefined }
  const tandem = await buildApp({ ...config, ...own, ...without })
  try {
    await tandem.start()
    const url = await tandem.app.listen({ host: '127.0.0.1', port: 0 })
    return { client: new Client(url, key), close: () => tandem.close() }
  } catch (error) {
    await tandem.close()
    throw error
  }
}
