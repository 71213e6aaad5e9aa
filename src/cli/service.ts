/**
 * The service that a command talks to: one that runs already, or one of its own that lasts as long
 * as the command.
 */
import { randomBytes } from 'node:crypto'
import { buildApp } from '../http/app.js'
import type { Config } from '../config.js'
import { Client } from './client.js'

export interface Service {
  client: Client
  close(): Promise<void>
}

/** A service that runs already, at `url`. */
export function remoteService(url: string, apiKey: string | undefined): Service {
  return { client: new Client(url, apiKey), close: () => Promise.resolve() }
}

/** Where a service with these settings listens. */
export function configuredUrl({ host, port }: Config): string {
  const reached = ['0.0.0.0', '::'].includes(host) ? '127.0.0.1' : host
  return `http://${reached.includes(':') ? `[${reached}]` : reached}:${port}`
}

/**
 * Refuses when the configured address answers, which says how to go on. A service at another
 * address is found by the lock of the data folder.
 */
async function refuseWhileServing(config: Config): Promise<void> {
  const url = configuredUrl(config)
  if (config.port !== 0 && (await new Client(url).isAlive())) {
    throw new Error(`A service runs already at ${url}: give --url ${url} to use it.`)
  }
}

/**
 * Starts a service on a free loopback port, for this command alone: it takes a key that only the
 * command knows.
 *
 * @throws with a sentence fit for a terminal when the bundle or the data folder cannot be opened,
 *   or when a service runs already at the configured address
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
