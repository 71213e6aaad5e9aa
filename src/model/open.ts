/** Opens the models of a service: in processes of its own, or those of an encoder. */
import { join } from 'node:path'
import type { BaseLogger } from 'pino'
import type { Config } from '../config.js'
import { openModels, type ModelsOptions } from './encoders/local-models.js'
import type { Models } from './models.js'
import type { GraphSpeed, SpeedOptions } from './onnx/graph-speed.js'
import { openRemoteModels, type RemoteModelsOptions } from './remote/remote-models.js'

export { openModels }

/** The options of all bundles of a service. */
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
    graphCacheFolder: join(dataFolder, 'graphs'),
  }
}

const SIGN_OF_LIFE_MS = 1800

/**
 * @param folder - the folder of the bundle; an encoder has its own
 * @throws BundleError; Error when a setting is missing or the encoder cannot be reached
 */
export async function openServedModels(
  config: Config,
  log: Pick<BaseLogger, 'info' | 'error'>,
  folder = config.modelFolder,
): Promise<Models> {
  log.info('the model is being opened; the first start on a machine takes some seconds more')
  const report = (sentence: string): void => log.error(sentence)
  const note = (sentence: string): void => log.info(sentence)
  const begun = performance.now()
  const waiting = setInterval(() => {
    const seconds = Math.round((performance.now() - begun) / 1000)
    log.info(`the model is being opened, ${seconds} s so far`)
  }, SIGN_OF_LIFE_MS)
  const opened =
    config.role === 'search'
      ? openRemoteModels({ ...encoderSettings(config), report })
      : openModels({ ...modelSettings(config), folder, report, note })
  const models = await opened.finally(() => clearInterval(waiting))
  const { fingerprint, name, version } = models.info
  log.info({ bundle: name, version, fingerprint }, 'the model is open')
  return models
}

/**
 * Measures the graphs of bundles on the CPU, side by side, for each number of threads. They run in
 * this process and block its thread.
 * @throws BundleError for a bundle or a graph that cannot be used
 */
export async function graphSpeeds(
  folders: readonly string[],
  options: SpeedOptions,
): Promise<GraphSpeed[]> {
  // Imported when called: a service does not load onnxruntime into its main process.
  const { graphSpeeds: measure } = await import('./onnx/graph-speed.js')
  return measure(folders, options)
}

function encoderSettings(config: Config): RemoteModelsOptions {
  const { encoderUrl: url, encoderApiKey: apiKey, requestTimeoutMs: timeoutMs } = config
  // A header takes no other characters; Node's own error would not name the setting.
  if (!/^[\x21-\x7e]*$/.test(apiKey))
    throw new Error('ENCODER_API_KEY takes visible ASCII characters.')
  if (url !== undefined) return { url, apiKey: apiKey === '' ? undefined : apiKey, timeoutMs }
  throw new Error(
    'TANDEM_ROLE is search; expected in ENCODER_URL the address of a service with TANDEM_ROLE=encode, such as http://127.0.0.1:3001.',
  )
}
