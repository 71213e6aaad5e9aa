/**
 * The models by which a service encodes and matches: in processes of its own, or, where it only
 * searches, an encoder's.
 */
import { join } from 'node:path'
import type { BaseLogger } from 'pino'
import type { Config } from '../config.js'
import { openModels, type Models, type ModelsOptions } from './models.js'
import { openRemoteModels } from './remote/remote-models.js'

/** What every bundle is opened with. */
export function modelSettings(config: Config): Omit<ModelsOptions, 'folder'> {
  const {
    dataFolder,
    inferenceThreads,
    maxImagePixels,
    executionProviders: providers,
    gpuDevices: devices,
  } = config
  return {
    inferenceThreads,
    maxImagePixels,
    providers,
    devices,
    preparedFolder: join(dataFolder, 'graphs'),
  }
}

/**
 * @param folder - of the bundle; an encoder has its own
 * @throws BundleError, or Error that says what is missing or not to be reached
 */
export async function openServedModels(
  config: Config,
  log: Pick<BaseLogger, 'info' | 'warn' | 'error'>,
  folder = config.modelFolder,
): Promise<Models> {
  const report = (sentence: string): void => log.error(sentence)
  const note = (sentence: string): void => log.info(sentence)
  const models =
    config.role === 'search'
      ? await openRemoteModels({ ...encoderSettings(config), report })
      : await openModels({ ...modelSettings(config), folder, report, note })
  const { fingerprint, name, version } = models.info
  log.info({ bundle: name, version, fingerprint }, 'the model is open')
  return models
}

function encoderSettings({
  encoderUrl: url,
  encoderApiKey: apiKey,
  requestTimeoutMs: timeoutMs,
}: Config) {
  if (url !== undefined) return { url, apiKey: apiKey === '' ? undefined : apiKey, timeoutMs }
  throw new Error(
    'TANDEM_ROLE is search; expected in ENCODER_URL the address of a service with TANDEM_ROLE=encode, such as http://127.0.0.1:3001.',
  )
}
