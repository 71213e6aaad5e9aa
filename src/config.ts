/**
 * Every setting of the service: one table, the only reader of the environment.
 *
 * `docs/configuration.md` and `.env.example` list the same settings; a test holds the three
 * together.
 */
import { dirname, isAbsolute, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of the package: shipped bundles and the search page live in it. */
export const packageFolder = resolve(dirname(fileURLToPath(import.meta.url)), '..')

/**
 * Thrown when the environment holds a value that a setting cannot take; the message lists every
 * one.
 */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** One row of the table. `read` throws a sentence that says what the setting takes. */
export interface Setting<Value> {
  readonly variable: string
  /** The value when the variable is absent or empty, as it would be written in the environment. */
  readonly fallback: string
  readonly read: (raw: string) => Value
}

function text(variable: string, fallback: string): Setting<string> {
  return { variable, fallback, read: (raw) => raw }
}

function integer(variable: string, fallback: number, least: number, most: number): Setting<number> {
  const read = (raw: string): number => {
    const value = /^\d+$/.test(raw) ? Number(raw) : Number.NaN
    if (value >= least && value <= most) return value
    throw new Error(`takes a whole number from ${least} to ${most}`)
  }
  return { variable, fallback: String(fallback), read }
}

function share(variable: string, fallback: number, least: number, most: number): Setting<number> {
  const read = (raw: string): number => {
    const value = /^(\d+|\d*\.\d+)$/.test(raw) ? Number(raw) : Number.NaN
    if (value >= least && value <= most) return value
    throw new Error(`takes a number from ${least} to ${most}`)
  }
  return { variable, fallback: String(fallback), read }
}

function oneOf<const Choice extends string>(
  variable: string,
  fallback: NoInfer<Choice>,
  choices: readonly Choice[],
): Setting<Choice> {
  const read = (raw: string): Choice => {
    const found = choices.find((choice) => choice === raw)
    if (found !== undefined) return found
    throw new Error(`takes one of ${choices.join(', ')}`)
  }
  return { variable, fallback, read }
}

/** Some of `choices`, each once, in an order that means something. */
function someOf<const Choice extends string>(
  variable: string,
  fallback: NoInfer<Choice>,
  choices: readonly Choice[],
): Setting<readonly Choice[]> {
  const read = (raw: string): readonly Choice[] => {
    const named = raw.split(',').map((name) => name.trim())
    const found = named
      .map((name) => choices.find((choice) => choice === name))
      .filter((choice) => choice !== undefined)
    if (found.length === named.length && new Set(found).size === found.length) return found
    throw new Error(`takes ${choices.join(', ')}, each at most once, separated by commas`)
  }
  return { variable, fallback, read }
}

/** Numbers of devices, each once. */
function devices(variable: string, fallback: string): Setting<readonly number[]> {
  const read = (raw: string): readonly number[] => {
    const found = raw.split(',').map((number) => number.trim())
    if (
      found.every((number) => /^\d{1,3}$/.test(number)) &&
      new Set(found.map(Number)).size === found.length
    )
      return found.map(Number)
    throw new Error('takes numbers of devices, from 0 and each at most once, separated by commas')
  }
  return { variable, fallback, read }
}

function boolean(variable: string, fallback: boolean): Setting<boolean> {
  const { read, ...setting } = oneOf(variable, fallback ? 'true' : 'false', ['false', 'true'])
  return { ...setting, read: (raw) => read(raw) === 'true' }
}

/** A file or folder that need not be named; then the value is undefined. */
function file(variable: string): Setting<string | undefined> {
  return { variable, fallback: '', read: (raw) => (raw === '' ? undefined : resolve(raw)) }
}

function folder(variable: string, fallback: string): Setting<string> {
  return { variable, fallback, read: (raw) => resolve(raw) }
}

/** A bundle: a bare name is one of those shipped in `models/`, anything with a slash is a path. */
function bundle(variable: string, fallback: string): Setting<string> {
  const read = (raw: string): string =>
    isAbsolute(raw) || /[\\/]|^\.+$/.test(raw)
      ? resolve(raw)
      : resolve(packageFolder, 'models', raw)
  return { variable, fallback, read }
}

/** What commas separate, without the space around it. */
function listed(raw: string): string[] {
  return raw
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
}

function keys(variable: string): Setting<readonly string[]> {
  const read = (raw: string): readonly string[] => {
    const found = listed(raw)
    if (found.every((key) => /^[\x21-\x7e]{8,}$/.test(key))) return found
    throw new Error('takes keys of 8 or more visible ASCII characters, separated by commas')
  }
  return { variable, fallback: '', read }
}

function hosts(variable: string): Setting<readonly string[]> {
  const read = (raw: string): readonly string[] => {
    const found = listed(raw.toLowerCase())
    if (found.every((host) => /^([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])$/.test(host)))
      return found
    throw new Error('takes host names without ports, separated by commas')
  }
  return { variable, fallback: '', read }
}

/**
 * Hosts that are asked, as the host of a URL is written: a port only where it is not that of the
 * scheme.
 */
function hostsAndPorts(variable: string): Setting<readonly string[]> {
  const { read: readHosts } = hosts(variable)
  const read = (raw: string): readonly string[] => {
    const found = listed(raw.toLowerCase())
    const expected =
      'takes host names, each with a port where that is not 80 or 443, separated by commas'
    return found.map((host) => {
      const [, name = '', port = '0'] = /^(.*?)(?::(\d{1,5}))?$/.exec(host) ?? []
      if (['80', '443'].includes(port) || Number(port) > 65_535) throw new Error(expected)
      try {
        readHosts(name)
      } catch {
        throw new Error(expected)
      }
      return host
    })
  }
  return { variable, fallback: '', read }
}

/** A folder, or a bucket as `s3://bucket/prefix`; then a value is undefined. */
function imageStore(
  variable: string,
): Setting<{ folder: string } | { bucket: string; prefix: string } | undefined> {
  const read = (raw: string): ReturnType<ReturnType<typeof imageStore>['read']> => {
    if (raw === '') return undefined
    if (!/^[a-z0-9]+:/i.test(raw)) return { folder: resolve(raw) }
    const [, bucket, prefix = ''] =
      /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(\w[\w.-]*(?:\/\w[\w.-]*)*)?)?$/.exec(raw) ??
      []
    if (bucket === undefined) throw new Error('takes a folder or s3://bucket/prefix')
    return { bucket, prefix }
  }
  return { variable, fallback: '', read }
}

/** The address of a server, without a path; empty means undefined. */
function origin(variable: string): Setting<string | undefined> {
  const read = (raw: string): string | undefined => {
    if (raw === '') return undefined
    const {
      protocol,
      origin: address,
      href,
    } = URL.canParse(raw) ? new URL(raw) : { protocol: '', origin: '', href: '' }
    if (['http:', 'https:'].includes(protocol) && href === `${address}/`) return address
    throw new Error('takes the address of a server, such as https://s3.example.org:9000')
  }
  return { variable, fallback: '', read }
}

const MIB = 1024 * 1024

/** The table. The unit is part of the variable's name; limits are inclusive. */
export const settings = {
  host: text('HOST', '127.0.0.1'),
  port: integer('PORT', 3000, 0, 65_535),
  dataFolder: folder('TANDEM_DATA_DIR', './data'),
  backupFolder: file('BACKUP_DIR'),
  modelFolder: bundle('TANDEM_MODEL', 'tandem-small'),
  logLevel: oneOf('LOG_LEVEL', 'info', [
    'trace',
    'debug',
    'info',
    'warn',
    'error',
    'fatal',
    'silent',
  ]),
  vectorIndex: oneOf('VECTOR_INDEX', 'hnsw', ['hnsw', 'exact', 'milvus']),
  annRecall: share('ANN_RECALL', 0.99, 0.8, 0.999),
  role: oneOf('TANDEM_ROLE', 'all', ['all', 'encode', 'search']),
  encoderUrl: origin('ENCODER_URL'),
  encoderApiKey: text('ENCODER_API_KEY', ''),
  maxBodyBytes: integer('MAX_BODY_BYTES', 20 * MIB, 1024, 1024 * MIB),
  maxTextChars: integer('MAX_TEXT_CHARS', 10_000, 1, 1_000_000),
  maxImagePixels: integer('MAX_IMAGE_PIXELS', 50_000_000, 1, 1_000_000_000),
  maxBatchItems: integer('MAX_BATCH_ITEMS', 128, 1, 10_000),
  maxConcurrentRequests: integer('MAX_CONCURRENT_REQUESTS', 64, 1, 100_000),
  maxConcurrentBulkRequests: integer('MAX_CONCURRENT_BULK_REQUESTS', 16, 1, 100_000),
  rateLimitPerSecond: integer('RATE_LIMIT_PER_SECOND', 0, 0, 1_000_000),
  rateLimitBurst: integer('RATE_LIMIT_BURST', 50, 1, 1_000_000),
  requestTimeoutMs: integer('REQUEST_TIMEOUT_MS', 30_000, 100, 3_600_000),
  executionProviders: someOf('EXECUTION_PROVIDERS', 'cpu', ['cuda', 'tensorrt', 'cpu']),
  gpuDevices: devices('GPU_DEVICES', '0'),
  inferenceThreads: integer('INFERENCE_THREADS', 0, 0, 1024),
  snapshotIntervalS: integer('SNAPSHOT_INTERVAL_S', 300, 1, 86_400),
  apiKeys: keys('API_KEYS'),
  apiKeysFile: file('API_KEYS_FILE'),
  trustedNetwork: boolean('TRUSTED_NETWORK', false),
  allowedHosts: hosts('ALLOWED_HOSTS'),
  tlsCertFile: file('TLS_CERT_FILE'),
  tlsKeyFile: file('TLS_KEY_FILE'),
  maxConnections: integer('MAX_CONNECTIONS', 1000, 1, 1_000_000),
  headersTimeoutMs: integer('HEADERS_TIMEOUT_MS', 10_000, 100, 600_000),
  keepAliveTimeoutMs: integer('KEEP_ALIVE_TIMEOUT_MS', 72_000, 100, 600_000),
  minClientBytesPerS: integer('MIN_CLIENT_BYTES_PER_S', 500, 0, 1_000_000_000),
  allowedImageHosts: hostsAndPorts('ALLOWED_IMAGE_HOSTS'),
  imageFetchTimeoutMs: integer('IMAGE_FETCH_TIMEOUT_MS', 10_000, 100, 600_000),
  milvusAddress: text('MILVUS_ADDRESS', ''),
  milvusToken: text('MILVUS_TOKEN', ''),
  milvusDatabase: text('MILVUS_DATABASE', ''),
  milvusCollection: text('MILVUS_COLLECTION', 'tandem'),
  milvusConsistency: oneOf('MILVUS_CONSISTENCY', 'strong', [
    'strong',
    'bounded',
    'session',
    'eventually',
  ]),
  milvusTimeoutMs: integer('MILVUS_TIMEOUT_MS', 5000, 100, 600_000),
  imageStore: imageStore('IMAGE_STORE'),
  s3Endpoint: origin('S3_ENDPOINT'),
  s3Region: text('S3_REGION', 'us-east-1'),
  imageStoreTimeoutMs: integer('IMAGE_STORE_TIMEOUT_MS', 5000, 100, 600_000),
} as const satisfies Record<string, Setting<unknown>>

/** The settings as read: what every room gets its numbers from. */
export type Config = {
  readonly [Name in keyof typeof settings]: ReturnType<(typeof settings)[Name]['read']>
}

/**
 * Reads every setting from `environment`; an absent or empty variable means its default.
 *
 * @throws ConfigError naming each variable with a value it cannot take. Keys are never repeated in
 *   the message.
 */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const problems: string[] = []
  const values = Object.entries(settings).map(([name, setting]: [string, Setting<unknown>]) => {
    const raw = environment[setting.variable]?.trim() || setting.fallback
    try {
      return [name, setting.read(raw)]
    } catch (error) {
      const given = setting.variable === settings.apiKeys.variable ? '' : `, not "${raw}"`
      problems.push(`${setting.variable} ${(error as Error).message}${given}.`)
      return [name, undefined]
    }
  })
  if (problems.length > 0) throw new ConfigError(problems.join('\n'))
  return Object.fromEntries(values) as Config
}
