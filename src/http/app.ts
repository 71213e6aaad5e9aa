/**
 * The composition root: opens the rooms, joins them to the pipeline, and puts plugins and routes
 * around it.
 */
import type { Server } from 'node:http'
import { join } from 'node:path'
import Fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyInstance,
} from 'fastify'
import { pino } from 'pino'
import { openBackups } from '../backup/backup-folder.js'
import { readCertificate, reloadCertificate, type Certificate } from './tls.js'
import type { Collection } from '../collection/collection.js'
import type { Config } from '../config.js'
import { openKeys, type Keys, type KeysChange } from '../auth/keys.js'
import { audit } from './plugins/audit.js'
import { auth, identity } from './plugins/auth.js'
import { answerClientError } from './plugins/client-errors.js'
import { headers } from './plugins/headers.js'
import { jsonBodies } from './plugins/json-bodies.js'
import { metrics } from './plugins/metrics.js'
import { openapi } from './plugins/openapi.js'
import { overload } from './plugins/overload.js'
import { pipelining } from './plugins/pipelining.js'
import { problems, sendProblem } from './plugins/problems.js'
import { rateLimit } from './plugins/rate-limit.js'
import { slowClients } from './plugins/slow-clients.js'
import { strangers } from './plugins/host-check.js'
import { tracing } from './plugins/tracing.js'
import { validation } from './plugins/validation.js'
import type { Readiness } from './readiness.js'
import { openImageFetch } from '../image-fetch/open.js'
import { Retrieval } from '../retrieval/retrieval.js'
import { openCollection } from '../collection/open.js'
import { backupRoutes } from './routes/backups.js'
import { embedRoutes } from './routes/embed.js'
import { encoderRoutes } from './routes/encoder.js'
import { healthRoutes } from './routes/health.js'
import { itemRoutes } from './routes/items.js'
import { manyItemsRoutes } from './routes/items-many.js'
import { errorsRoute, pageRoutes } from './routes/pages.js'
import { rerankRoutes } from './routes/rerank.js'
import { searchRoutes } from './routes/search.js'
import { reembeddingRoutes } from './routes/reembedding.js'
import { BackupJobs } from '../backup/jobs.js'

/** Limits that are no settings; tests give others. */
export interface Limits {
  maxConnections: number
  /** For the head of a request, from the start of a connection, and for the handshake of TLS. */
  headersTimeoutMs: number
  keepAliveTimeoutMs: number
  /** See SlowClientsOptions. */
  minClientBytesPerS: number
  /** Requests of one client at once, where RATE_LIMIT_PER_SECOND is set. */
  rateLimitBurst: number
  maxConcurrentBulkRequests: number
  maxTextChars: number
  snapshotIntervalMs: number
}

const LIMITS: Limits = {
  maxConnections: 1000,
  headersTimeoutMs: 10_000,
  // Longer than the 60 s for which most proxies keep a connection: the proxy closes it first.
  keepAliveTimeoutMs: 72_000,
  // A mobile network at its worst is faster.
  minClientBytesPerS: 500,
  rateLimitBurst: 50,
  // Each may hold a body of MAX_BODY_BYTES, while the writer stores one group at a time.
  maxConcurrentBulkRequests: 16,
  // The models read a few hundred tokens; the rest of a longer text would have no effect.
  maxTextChars: 10_000,
  // Only bounds the replay at the next start: the store is durable without a snapshot.
  snapshotIntervalMs: 300_000,
}

export interface AppOptions {
  open?: typeof openCollection
  limits?: Partial<Limits>
}

/** The service, not listening yet. */
export interface Tandem {
  app: FastifyInstance
  retrieval: Retrieval
  /** Repairs the index and warms the models; requests are answered from then on. */
  start: () => Promise<void>
  /** Reads the files of API keys and of the certificate again; the log has the outcome. */
  reload: () => Promise<void>
  /**
   * Not ready, stop accepting, answer what was accepted, save the index, close the rooms. Safe to
   * call again.
   */
  close: () => Promise<void>
}

// 256 characters of an id, each at most 4 bytes of UTF-8, each of them written as %XX.
const LONGEST_ID = 256 * 4 * 3
const CALLS_ON_A_CONNECTION = 256

/**
 * Opens everything that `config` names. What was opened is closed again when a later step fails.
 *
 * @throws with a sentence fit for a terminal: a bad bundle, a data folder of another bundle or in
 *   use, a broken file of keys or certificate
 */
export async function buildApp(
  config: Config,
  { open = openCollection, limits: otherLimits }: AppOptions = {},
): Promise<Tandem> {
  const limits = { ...LIMITS, ...otherLimits }
  const log: FastifyBaseLogger = pino({
    level: config.logLevel,
    redact: ['req.headers.authorization', 'req.headers["x-api-key"]'],
  })
  const { apiKeys, apiKeysFile } = config
  const onChange = (change: KeysChange): void => logKeysChange(log, change)
  const keys = await openKeys({ keys: apiKeys, file: apiKeysFile, onChange })
  const certificate = await readCertificate(config)
  const collection = await open(config, log)
  const retrieval = new Retrieval(collection)
  const jobs = backupJobsOf(config, retrieval, log)
  const closeRooms = async (): Promise<void> => {
    await jobs?.close()
    await retrieval.close()
  }
  const firstOfAll =
    collection.engine === null ? 'the index is repaired' : `${collection.engine.name} is waited for`
  const readiness: Readiness = { state: 'starting', detail: `${firstOfAll} and the model warmed` }
  const app = Fastify({
    ...connectionOptions(limits, certificate),
    loggerInstance: log,
    logController: new LogController({
      disableRequestLogging: !['trace', 'debug'].includes(config.logLevel),
    }),
    bodyLimit: config.maxBodyBytes,
    routerOptions: { maxParamLength: LONGEST_ID },
    frameworkErrors: sendProblem,
    clientErrorHandler: answerClientError,
  })
  app.server.maxConnections = limits.maxConnections
  // Connections between services are kept: so those of an encoder that was just added get their
  // share of calls.
  if (config.role === 'encode') app.server.maxRequestsPerSocket = CALLS_ON_A_CONNECTION
  // An Expect header that is not understood may be ignored; Node would answer without a problem.
  app.server.on('checkExpectation', (request, reply) => app.routing(request, reply))
  // What no route takes is 415: the framework would hand over text/plain as a string.
  app.removeContentTypeParser('text/plain')
  try {
    await addPlugins(app, config, limits, keys, retrieval, readiness)
    await addRoutes(app, config, limits, { collection, retrieval, jobs, readiness })
    await app.ready()
  } catch (error) {
    await closeRooms()
    throw error
  }

  let timer: NodeJS.Timeout | undefined
  let closed: Promise<void> | undefined

  const start = async (): Promise<void> => {
    const repaired = await retrieval.start((replayed) => {
      readiness.detail = `the index is being repaired: ${replayed} items so far`
    })
    log.info({ ...repaired, items: retrieval.stats().items }, 'the index agrees with the store')
    keys.watch()
    timer = setInterval(() => {
      retrieval
        .save()
        .catch((error: unknown) => log.error({ err: error }, 'the index could not be saved'))
    }, limits.snapshotIntervalMs)
    Object.assign(readiness, {
      state: 'ready',
      detail: 'the model is warm and the index agrees with the store',
    })
  }
  const close = (): Promise<void> => {
    Object.assign(readiness, {
      state: 'stopping',
      detail: 'requests that were accepted are being answered',
    })
    clearInterval(timer)
    keys.close()
    closed ??= app.close().then(closeRooms)
    return closed
  }
  const reload = async (): Promise<void> => {
    await keys.reload()
    if (certificate !== null) await reloadCertificate(app.server, config, log)
  }
  return { app, retrieval, start, reload, close }
}

/**
 * What Node holds each connection to, with TLS where there is a certificate. The plugin slowClients
 * times the rest.
 */
function connectionOptions(
  { headersTimeoutMs, keepAliveTimeoutMs: keepAliveTimeout }: Limits,
  certificate: Certificate | null,
): FastifyHttpOptions<Server> {
  const limits = {
    headersTimeout: headersTimeoutMs,
    connectionsCheckingInterval: Math.min(1000, headersTimeoutMs),
  }
  if (certificate === null) return { keepAliveTimeout, http: limits }
  // For plugins and routes a server with TLS is like one without, so its type is kept out of
  // theirs.
  const https = { ...limits, ...certificate, handshakeTimeout: headersTimeoutMs }
  return { keepAliveTimeout, https } as unknown as FastifyHttpOptions<Server>
}

function logKeysChange(log: FastifyBaseLogger, change: KeysChange): void {
  if ('error' in change) log.error(`${change.error.message} The API keys before it still hold.`)
  else if (change.keys === 0)
    log.warn('the file of API keys is empty: every request is refused until it holds one')
  else log.info({ keys: change.keys }, 'the API keys were read again')
}

/** Null where the items are kept by an engine elsewhere, which has backups of its own. */
function backupJobsOf(
  { backupFolder, dataFolder }: Config,
  { maintenance }: Retrieval,
  log: FastifyBaseLogger,
): BackupJobs | null {
  if (maintenance === null) return null
  const backups = openBackups(
    backupFolder ?? join(dataFolder, 'backups'),
    maintenance.storage.identity,
  )
  return new BackupJobs(backups, maintenance, log)
}

/** Outermost first: what fails in one is answered by those before it. */
async function addPlugins(
  app: FastifyInstance,
  config: Config,
  limits: Limits,
  keys: Keys,
  retrieval: Retrieval,
  readiness: Readiness,
): Promise<void> {
  const { maxConcurrentRequests, requestTimeoutMs, host, allowedHosts } = config
  await app.register(pipelining)
  await app.register(tracing)
  await app.register(problems)
  await app.register(audit)
  await app.register(headers)
  await app.register(slowClients, { minBytesPerS: limits.minClientBytesPerS })
  await app.register(strangers, { host, allowedHosts })
  await app.register(jsonBodies)
  await app.register(validation)
  await app.register(identity, { keys })
  await app.register(rateLimit, {
    perSecond: config.rateLimitPerSecond,
    burst: limits.rateLimitBurst,
  })
  await app.register(auth, { keys })
  await app.register(overload, {
    maxConcurrentRequests,
    maxConcurrentBulkRequests: limits.maxConcurrentBulkRequests,
    requestTimeoutMs,
    readiness,
  })
  await app.register(openapi, { keysNeeded: keys.needed })
  await app.register(metrics, { retrieval })
}

interface Parts {
  collection: Collection
  retrieval: Retrieval
  jobs: BackupJobs | null
  readiness: Readiness
}

async function addRoutes(
  app: FastifyInstance,
  config: Config,
  { maxTextChars }: Limits,
  { collection, retrieval, jobs, readiness }: Parts,
): Promise<void> {
  const { maxBatchItems, maxBodyBytes, allowedImageHosts: allowedHosts } = config
  const remote = openImageFetch({ allowedHosts })
  const limits = { maxTextChars, maxBatchItems, maxBodyBytes }
  const options = { retrieval, limits, fetchImage: remote.fetch }
  await app.register(healthRoutes, { readiness, retrieval })
  await app.register(embedRoutes, options)
  await app.register(rerankRoutes, options)
  await app.register(errorsRoute)
  if (config.role === 'encode') {
    // Its bundle does not change while it serves: what was entered need not be left.
    await app.register(encoderRoutes, {
      encoder: collection.acquire().models,
      readiness,
      maxBodyBytes,
    })
    return
  }
  await app.register(itemRoutes, options)
  await app.register(manyItemsRoutes, options)
  await app.register(searchRoutes, options)
  await app.register(backupRoutes, { jobs })
  await app.register(reembeddingRoutes, { retrieval })
  await app.register(pageRoutes)
}
