/**
 * The settings of the service: one schema, read from the environment.
 *
 * `docs/configuration.md` and `.env.example` list the same settings; a test compares the three.
 * Two other files read `process.env`, neither for a setting: `worker/child.ts` passes the
 * environment on to workers without the secrets, and `vector-index/hnsw.ts` passes on
 * GLIBC_TUNABLES.
 */
import { readFileSync } from 'node:fs'
import { isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv } from 'ajv'
import { closestMatch } from 'leven'
import { Type, type Static, type TProperties, type TSchemaOptions } from 'typebox'

/** The folder of the package, which holds the shipped bundles and the search page. */
export const packageFolder = fileURLToPath(new URL('..', import.meta.url)).replace(/[\\/]$/, '')

/** Of the package.json. */
export const packageInfo = JSON.parse(
  readFileSync(join(packageFolder, 'package.json'), 'utf8'),
) as { version: string; description: string }

/**
 * A variable has a value that its setting does not take, or its name is a misspelt setting; the
 * message names every such variable.
 */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

function text(fallback: string) {
  return Type.String({ default: fallback })
}

/** @param takes - what the setting takes, for the error */
function checkedText(fallback: string, takes: string, check: (raw: string) => boolean) {
  return Type.Unsafe<string>({ type: 'string', default: fallback, description: takes, check })
}

function integer(fallback: number, minimum: number, maximum: number) {
  return Type.Unsafe<number>({
    default: String(fallback),
    description: `a whole number from ${minimum} to ${maximum}`,
    // Digits only: the conversion to a number would also accept 1e3 and 0x10.
    allOf: [
      { type: 'string', pattern: '^\\d+$' },
      { type: 'integer', minimum, maximum },
    ],
  })
}

function oneOf<const Choice extends string>(
  choices: readonly [Choice, ...Choice[]],
  fallback: NoInfer<Choice>,
) {
  return Type.Unsafe<Choice>({
    type: 'string',
    default: fallback,
    description: `one of ${choices.join(', ')}`,
    enum: choices,
  })
}

const PROVIDERS = ['cuda', 'tensorrt', 'cpu'] as const
const DIALECTS = [
  'openai',
  'rerank',
  'cohere',
  'tei',
  'voyage',
  'immich',
  'weaviate',
  'clip-retrieval',
  'mcp',
] as const
/** Addresses and formats of other services, for their clients: see docs/clients.md. */
export type DialectName = (typeof DIALECTS)[number]
const MIB = 1024 * 1024

/**
 * Every setting by its variable. The unit is part of the name; limits are inclusive. `description`
 * is what the setting takes, and a value that is `writeOnly` is not repeated in errors.
 */
const schema = Type.Object({
  HOST: text('127.0.0.1'),
  PORT: integer(3000, 0, 65_535),
  HEALTH_PORT: integer(0, 0, 65_535),
  TANDEM_DATA_DIR: text('./data'),
  BACKUP_DIR: text(''),
  TANDEM_MODEL: text('tandem-small'),
  LOG_LEVEL: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info'),
  AUDIT_LOG: text(''),
  VECTOR_INDEX: oneOf(['hnsw', 'exact', 'milvus'], 'hnsw'),
  EXECUTION_PROVIDERS: checkedText(
    'cpu',
    `${PROVIDERS.join(', ')}, each at most once, separated by commas`,
    (raw) => {
      const names = raw.split(/ *, */)
      return names.every(isProvider) && new Set(names).size === names.length
    },
  ),
  CUDA_VISIBLE_DEVICES: text('0'),
  INFERENCE_THREADS: integer(0, 0, 1024),
  TANDEM_ROLE: oneOf(['all', 'encode', 'search'], 'all'),
  ENCODER_URL: checkedText('', 'the address of a server, such as http://127.0.0.1:3001', isOrigin),
  ENCODER_API_KEY: {
    ...checkedText('', 'visible ASCII characters', (raw) => /^[\x21-\x7e]*$/.test(raw)),
    writeOnly: true,
  },
  MAX_BODY_BYTES: integer(20 * MIB, 1024, 1024 * MIB),
  MAX_IMAGE_PIXELS: integer(50_000_000, 1, 1_000_000_000),
  MAX_BATCH_ITEMS: integer(128, 1, 10_000),
  MAX_CONCURRENT_REQUESTS: integer(64, 1, 100_000),
  RATE_LIMIT_PER_SECOND: integer(0, 0, 1_000_000),
  REQUEST_TIMEOUT_MS: integer(30_000, 100, 3_600_000),
  API_KEYS: {
    ...checkedText('', 'keys of 8 or more visible ASCII characters, separated by commas', (raw) =>
      listOf(raw).every((key) => /^[\x21-\x7e]{8,}$/.test(key)),
    ),
    writeOnly: true,
  },
  API_KEYS_FILE: text(''),
  TRUSTED_NETWORK: oneOf(['false', 'true'], 'false'),
  ALLOWED_HOSTS: checkedText('', 'host names without ports, separated by commas', (raw) =>
    listOf(raw).every(isHost),
  ),
  ALLOWED_ORIGINS: checkedText(
    '',
    'origins of pages as browsers send them, such as https://photos.example.org, separated by commas',
    (raw) => listOf(raw).every(isPageOrigin),
  ),
  DIALECTS: checkedText(
    'all',
    `all, none, or some of ${DIALECTS.join(', ')}, separated by commas`,
    (raw) => ['all', 'none'].includes(raw) || listOf(raw).every(isDialect),
  ),
  TLS_CERT_FILE: text(''),
  TLS_KEY_FILE: text(''),
  ALLOWED_IMAGE_HOSTS: checkedText(
    '',
    'host names, each with a port where that is not 80 or 443, separated by commas',
    (raw) => listOf(raw).every(isHostWithPort),
  ),
  PRIVATE_IMAGE_HOSTS: checkedText(
    '',
    'host names, each with a port where that is not 80 or 443, separated by commas',
    (raw) => listOf(raw).every(isHostWithPort),
  ),
  MILVUS_ADDRESS: text(''),
  MILVUS_TOKEN: { ...text(''), writeOnly: true },
  MILVUS_DATABASE: text(''),
  MILVUS_COLLECTION: checkedText(
    'tandem',
    'letters, digits and underscores, at most 255, the first no digit',
    (raw) => /^[A-Za-z_]\w{0,254}$/.test(raw),
  ),
  IMAGE_STORE: checkedText(
    '',
    'a folder or s3://bucket/prefix',
    (raw) => !isUrl(raw) || BUCKET.test(raw),
  ),
  S3_ENDPOINT: checkedText(
    '',
    'the address of a server, such as https://s3.example.org:9000',
    isOrigin,
  ),
  S3_REGION: text('us-east-1'),
  OTEL_EXPORTER_OTLP_ENDPOINT: checkedText(
    '',
    'the address of a collector, such as http://127.0.0.1:4318',
    isUrlOfHttp,
  ),
  OTEL_SERVICE_NAME: text('tandem'),
})

export const settings = schema.properties as TProperties as Record<string, TSchemaOptions>

const BUCKET = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(\w[\w.-]*(?:\/\w[\w.-]*)*)?)?$/

function listOf(raw: string): readonly string[] {
  return raw
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '')
}

function isProvider(name: string): name is (typeof PROVIDERS)[number] {
  return PROVIDERS.some((provider) => provider === name)
}

function isDialect(name: string): name is DialectName {
  return DIALECTS.some((dialect) => dialect === name)
}

function dialectsOf(raw: string): readonly DialectName[] {
  if (raw === 'all') return DIALECTS
  return raw === 'none' ? [] : listOf(raw).filter(isDialect)
}

function isHost(name: string): boolean {
  return /^([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])$/i.test(name)
}

/** The port of the scheme itself is refused, since the host of a URL does not show it. */
function isHostWithPort(host: string): boolean {
  const [, name = '', port = '0'] = /^(.*?)(?::(\d{1,5}))?$/.exec(host) ?? []
  return isHost(name) && !['80', '443'].includes(port) && Number(port) <= 65_535
}

/** Whether it is the address of a server without a path, or empty. */
function isOrigin(raw: string): boolean {
  if (raw === '') return true
  if (!URL.canParse(raw)) return false
  const { protocol, origin, href } = new URL(raw)
  return ['http:', 'https:'].includes(protocol) && href === `${origin}/`
}

/** Whether it is an address of http or https, which may have a path, or empty. */
function isUrlOfHttp(raw: string): boolean {
  return raw === '' || (URL.canParse(raw) && /^https?:$/.test(new URL(raw).protocol))
}

/** Browser extensions and applications of the desktop have origins of other schemes. */
function isPageOrigin(raw: string): boolean {
  if (/^https?:/i.test(raw)) return isOrigin(raw) && isHost(new URL(raw).hostname)
  return /^[a-z][a-z0-9+.-]*:\/\/[a-z0-9_-]+(\.[a-z0-9_-]+)*(:\d{1,5})?$/i.test(raw)
}

function isUrl(raw: string): boolean {
  return /^[a-z0-9]+:/i.test(raw)
}

/** A bare name is a bundle in `models/`; a name with a slash is a path. */
function bundleFolder(raw: string): string {
  const isPath = isAbsolute(raw) || /[\\/]|^\.+$/.test(raw)
  return isPath ? resolve(raw) : join(packageFolder, 'models', raw)
}

function imageStoreOf(raw: string): { folder: string } | { bucket: string; prefix: string } {
  const [, bucket, prefix = ''] = BUCKET.exec(raw) ?? []
  return bucket === undefined ? { folder: resolve(raw) } : { bucket, prefix }
}

/** Undefined for an empty value. */
function optional<Value>(raw: string, read: (raw: string) => Value): Value | undefined {
  return raw === '' ? undefined : read(raw)
}

function originOf(raw: string): string {
  return new URL(raw).origin
}

function pageOriginOf(raw: string): string {
  return /^https?:/i.test(raw) ? originOf(raw) : raw.toLowerCase()
}

export type Config = Readonly<ReturnType<typeof configOf>>

function configOf(values: Static<typeof schema>) {
  return {
    host: values.HOST,
    port: values.PORT,
    /** 0 for none. */
    healthPort: values.HEALTH_PORT,
    dataFolder: resolve(values.TANDEM_DATA_DIR),
    backupFolder: optional(values.BACKUP_DIR, resolve),
    modelFolder: bundleFolder(values.TANDEM_MODEL),
    logLevel: values.LOG_LEVEL,
    /** Undefined for standard output. */
    auditLog: optional(values.AUDIT_LOG, resolve),
    vectorIndex: values.VECTOR_INDEX,
    executionProviders: values.EXECUTION_PROVIDERS.split(/ *, */).filter(isProvider),
    /** CUDA numbers the devices of CUDA_VISIBLE_DEVICES from 0. */
    gpuDevices: values.CUDA_VISIBLE_DEVICES.split(',').map((_, index) => index),
    inferenceThreads: values.INFERENCE_THREADS,
    role: values.TANDEM_ROLE,
    encoderUrl: optional(values.ENCODER_URL, originOf),
    encoderApiKey: values.ENCODER_API_KEY,
    maxBodyBytes: values.MAX_BODY_BYTES,
    maxImagePixels: values.MAX_IMAGE_PIXELS,
    maxBatchItems: values.MAX_BATCH_ITEMS,
    maxConcurrentRequests: values.MAX_CONCURRENT_REQUESTS,
    rateLimitPerSecond: values.RATE_LIMIT_PER_SECOND,
    requestTimeoutMs: values.REQUEST_TIMEOUT_MS,
    apiKeys: listOf(values.API_KEYS),
    apiKeysFile: optional(values.API_KEYS_FILE, resolve),
    trustedNetwork: values.TRUSTED_NETWORK === 'true',
    allowedHosts: listOf(values.ALLOWED_HOSTS.toLowerCase()),
    allowedOrigins: listOf(values.ALLOWED_ORIGINS).map(pageOriginOf),
    dialects: dialectsOf(values.DIALECTS),
    tlsCertFile: optional(values.TLS_CERT_FILE, resolve),
    tlsKeyFile: optional(values.TLS_KEY_FILE, resolve),
    allowedImageHosts: listOf(values.ALLOWED_IMAGE_HOSTS.toLowerCase()),
    privateImageHosts: listOf(values.PRIVATE_IMAGE_HOSTS.toLowerCase()),
    milvusAddress: values.MILVUS_ADDRESS,
    milvusToken: values.MILVUS_TOKEN,
    milvusDatabase: values.MILVUS_DATABASE,
    milvusCollection: values.MILVUS_COLLECTION,
    imageStore: optional(values.IMAGE_STORE, imageStoreOf),
    s3Endpoint: optional(values.S3_ENDPOINT, originOf),
    s3Region: values.S3_REGION,
    otlpEndpoint: optional(values.OTEL_EXPORTER_OTLP_ENDPOINT, String),
    otelServiceName: values.OTEL_SERVICE_NAME,
  }
}

/** Fills in defaults and converts numbers. The schema is our own, so it need not be checked. */
const ajv = new Ajv({
  allErrors: true,
  useDefaults: true,
  coerceTypes: true,
  strict: false,
  meta: false,
  validateSchema: false,
}).addKeyword({
  keyword: 'check',
  type: 'string',
  validate: (check: (raw: string) => boolean, raw: string): boolean => check(raw),
})

const PREFIX = 'TANDEM_'
/** Variables that Kubernetes sets in pods for a Service of the name tandem. */
const SERVICE_LINK = /_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/
const SERVICE_ADDRESS = /^(tcp|udp|sctp):\/\//
const MAX_TYPOS = 2
/** Other programs have names near to shorter ones: API_KEY, POST, DIALECT. */
const MIN_NEAR_NAME = 9
const OF_OTHER_PROGRAMS: readonly string[] = ['LOGLEVEL']

/**
 * The setting that a variable seems to mean: a variable with our prefix means one always, another
 * where it differs by at most two letters, of which none is the first. Undefined for variables of
 * other programs.
 */
function misspelt(variable: string): { nearest: string | undefined } | undefined {
  const known = Object.keys(schema.properties)
  if (known.includes(variable) || OF_OTHER_PROGRAMS.includes(variable)) return undefined
  const name = variable.toUpperCase()
  if (name.startsWith(PREFIX)) {
    const bare = name.slice(PREFIX.length)
    const nearest =
      closestMatch(bare, known, { maxDistance: MAX_TYPOS }) ??
      closestMatch(name, known, { maxDistance: bare.length })
    return { nearest }
  }
  const candidates = known.filter(
    (setting) => setting.length >= MIN_NEAR_NAME && setting.startsWith(name.charAt(0)),
  )
  const nearest = closestMatch(name, candidates, { maxDistance: MAX_TYPOS })
  return nearest === undefined ? undefined : { nearest }
}

/** A sentence for each variable that is no setting and seems to be meant as one. */
function misspeltSettings(environment: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(environment).flatMap(([variable, value]) => {
    if (!value || SERVICE_LINK.test(variable) || SERVICE_ADDRESS.test(value)) return []
    const found = misspelt(variable)
    if (found === undefined) return []
    const hint = found.nearest === undefined ? '' : ` Did you mean ${found.nearest}?`
    return [`${variable} is not a setting.${hint}`]
  })
}

/**
 * Reads the settings from `environment`. An absent or empty variable means its default.
 *
 * @throws ConfigError with a sentence for each variable whose value its setting does not take, and
 *   for each misspelt setting; it does not repeat secrets
 */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const unknown = misspeltSettings(environment)
  const data = Object.fromEntries(
    Object.keys(schema.properties)
      .map((variable) => [variable, environment[variable]?.trim()])
      .filter(([, value]) => value),
  ) as Record<string, string>
  const values: unknown = { ...data }
  if (ajv.validate<Static<typeof schema>>(schema, values)) {
    if (unknown.length === 0) return configOf(values)
    throw new ConfigError(unknown.join('\n'))
  }
  const variables = new Set(ajv.errors?.map(({ instancePath }) => instancePath.slice(1)))
  const sentences = [...variables].map((variable) => {
    const { description, writeOnly } = settings[variable] ?? {}
    return `${variable} takes ${description}${writeOnly ? '' : `, not "${data[variable]}"`}.`
  })
  throw new ConfigError([...sentences, ...unknown].join('\n'))
}
