/** Assembles the service: opens its parts, then registers the plugins and the routes, in order. */
import type { Server } from 'node:http'
import { join } from 'node:path'
import cors from '@fastify/cors'
import helmet, { type FastifyHelmetOptions } from '@fastify/helmet'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyInstance,
} from 'fastify'
import { Connections } from './connections.js'
import { openAuditLog, openLog } from './log.js'
import { answerUnroutable, corsOptions } from './cors.js'
import { openBackups } from '../backup/backup-folder.js'
import { readCertificate, reloadCertificate, type Certificate } from './tls.js'
import type { Config } from '../config.js'
import { openKeys, type KeysChange } from '../auth/keys.js'
import { audit } from './plugins/audit.js'
import { buildSerializer } from './serializers.js'
import { auth, identity } from './plugins/auth.js'
import { answerClientError } from './plugins/client-errors.js'
import { hostCheck } from './plugins/host-check.js'
import { jsonBodies } from './plugins/bodies.js'
import { metrics } from './plugins/metrics.js'
import type { DiskOptions } from './metrics/resource-metrics.js'
import { openapi } from './plugins/openapi.js'
import { overload, type Readiness } from './plugins/overload.js'
import { pipelining } from './plugins/pipelining.js'
import { problems } from './plugins/problems.js'
import { rateLimit } from './plugins/rate-limit.js'
import { requestHead, routedUrl } from './plugins/request-head.js'
import { slowClients } from './plugins/slow-clients.js'
import { tracing } from './plugins/tracing.js'
import { validation } from './plugins/validation.js'
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
  /** Beyond, the client with the most loses one: see Connections. */
  maxConnections: number
  /** For the head of a request, from the start of a connection, and for the handshake of TLS. */
  headersTimeoutMs: number
  keepAliveTimeoutMs: number
  /** See SlowClientsOptions. */
  minClientBytesPerS: number
  /** Requests of one client at once, where RATE_LIMIT_PER_SECOND is set. */
  rateLimitBurst: number
  maxConcurrentBulkRequests: number
  /** Of all bodies and unread answers, at least four of the largest bodies. See ByteBudget. */
  maxHeldBytes: number
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
  // A JSON body is in memory up to three times while it is read, so a pod of 3 GiB has room.
  maxHeldBytes: 256 * 2 ** 20,
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
  /**
   * Reads the files of API keys and of the certificate again, and logs the outcome. Opens the file
   * of the audit again.
   */
  reload: () => Promise<void>
  /**
   * Stops accepting requests, answers those it has accepted, saves the index and closes all parts.
   * Further calls wait for the same end.
   */
  close: () => Promise<void>
}

// An id has at most 256 characters, each at most 4 bytes of UTF-8, each byte written as %XX.
const MAX_PARAM_LENGTH = 256 * 4 * 3
// Other services keep their connections. Closing one now and then moves calls to new encoders.
const ENCODER_REQUESTS_PER_CONNECTION = 256

/** Headers of every reply; pages set a policy of their own. */
const SECURITY_HEADERS: FastifyHelmetOptions = {
  contentSecurityPolicy: {
    useDefaults: false,
    directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
  },
  xFrameOptions: { action: 'deny' },
  // TLS may end at a proxy, which then sends it.
  strictTransportSecurity: false,
  crossOriginOpenerPolicy: false,
  originAgentCluster: false,
  xDnsPrefetchControl: false,
  xDownloadOptions: false,
  xPermittedCrossDomainPolicies: false,
  xXssProtection: false,
}

/**
 * Opens all parts that `config` names, and closes them again if a later step fails.
 *
 * @throws Error with a sentence for a terminal: a bad bundle, a data folder of another bundle or in
 *   use, a damaged file of keys or certificate
 */
export async function buildApp(
  config: Config,
  { open = openCollection, limits: otherLimits }: AppOptions = {},
): Promise<Tandem> {
  const limits = { ...LIMITS, ...otherLimits }
  const log = openLog(config.logLevel)
  const auditLog = openAuditLog(config.auditLog, config.logLevel)
  const keys = await openKeys({
    keys: config.apiKeys,
    file: config.apiKeysFile,
    onChange: (change) => logKeysChange(log, change),
  })
  const certificate = await readCertificate(config)
  const [collection, dialectsModule] = await Promise.all([
    open(config, log),
    // Read while the model is opened, which waits for files and workers; not with none switched on.
    config.dialects.length > 0 ? import('./dialects/open.js') : null,
  ])
  const retrieval = new Retrieval(collection)
  const jobs = backupJobs(config, retrieval, log)
  const closeParts = async (): Promise<void> => {
    await jobs?.close()
    await retrieval.close()
  }
  const waitsFor =
    collection.engine === null
      ? 'the index is being repaired'
      : `waiting for ${collection.engine.name}`
  const readiness: Readiness = {
    state: 'starting',
    detail: `${waitsFor}, then the model is warmed`,
  }
  const app = newApp(config, limits, certificate, log)

  try {
    const { host, allowedHosts, allowedOrigins } = config
    const connections = new Connections(app.server, limits.maxConnections)
    app.addHook('onRequest', (request, reply, next) => {
      reply.raw.once('close', connections.begin(request.raw.socket))
      next()
    })
    await app.register(pipelining)
    await app.register(tracing, { records: config.otlpEndpoint !== undefined })
    await registerSpans(app, config)
    await app.register(problems)
    if (allowedOrigins.length > 0) await app.register(cors, corsOptions(allowedOrigins))
    await app.register(audit, { log: auditLog.log })
    await app.register(helmet, SECURITY_HEADERS)
    await app.register(slowClients, { minBytesPerS: limits.minClientBytesPerS })
    await app.register(hostCheck, { host, allowedHosts, allowedOrigins })
    await app.register(requestHead)
    await app.register(jsonBodies)
    await app.register(validation)
    await app.register(identity, { keys })
    await app.register(rateLimit, {
      perSecond: config.rateLimitPerSecond,
      burst: limits.rateLimitBurst,
    })
    await app.register(auth, { keys })
    await app.register(overload, {
      maxConcurrentRequests: config.maxConcurrentRequests,
      maxConcurrentBulkRequests: limits.maxConcurrentBulkRequests,
      maxHeldBytes: Math.max(limits.maxHeldBytes, 4 * config.maxBodyBytes),
      requestTimeoutMs: config.requestTimeoutMs,
      readiness,
    })
    await app.register(openapi, { keysNeeded: keys.needed })
    await app.register(metrics, { retrieval, disk: diskOf(config, jobs) })

    const { maxBatchItems, maxBodyBytes, allowedImageHosts, privateImageHosts } = config
    const { fetch: fetchImage } = openImageFetch({
      allowedHosts: allowedImageHosts,
      privateHosts: privateImageHosts,
    })
    const inputLimits = { maxTextChars: limits.maxTextChars, maxBatchItems, maxBodyBytes }
    const options = { retrieval, limits: inputLimits, fetchImage }
    await app.register(healthRoutes, { readiness, retrieval })
    const hasItems = config.role !== 'encode'
    const dialectOptions = { ...options, readiness, hasItems }
    const dialects = await dialectsModule?.openDialects(config.dialects, dialectOptions)
    await app.register(async (own) => {
      dialects?.share(own)
      await own.register(embedRoutes, options)
      await own.register(rerankRoutes, options)
      if (config.role !== 'encode') await own.register(pageRoutes)
    })
    await dialects?.register(app)
    await app.register(errorsRoute)
    if (config.role === 'encode') {
      // Never released: the bundle of an encoder does not change.
      const encoder = collection.acquire().models
      await app.register(encoderRoutes, { encoder, readiness, limits: inputLimits })
    } else {
      await app.register(itemRoutes, options)
      await app.register(manyItemsRoutes, options)
      await app.register(searchRoutes, options)
      await app.register(backupRoutes, { jobs })
      await app.register(reembeddingRoutes, { retrieval })
    }
    await app.ready()
  } catch (error) {
    await closeParts()
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
    readiness.state = 'ready'
    readiness.detail = 'the model is warm and the index agrees with the store'
  }
  const close = (): Promise<void> => {
    readiness.state = 'stopping'
    readiness.detail = 'accepted requests are being answered'
    clearInterval(timer)
    keys.close()
    closed ??= app.close().then(closeParts)
    return closed
  }
  const reload = async (): Promise<void> => {
    auditLog.reopen()
    await keys.reload()
    if (certificate !== null) await reloadCertificate(app.server, config, log)
  }
  return { app, retrieval, start, reload, close }
}

function newApp(
  config: Config,
  limits: Limits,
  certificate: Certificate | null,
  log: FastifyBaseLogger,
) {
  const app = Fastify({
    ...connectionOptions(limits, certificate),
    loggerInstance: log,
    logController: new LogController({
      disableRequestLogging: !['trace', 'debug'].includes(config.logLevel),
    }),
    schemaController: { compilersFactory: { buildSerializer } },
    bodyLimit: config.maxBodyBytes,
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    frameworkErrors: answerUnroutable(config.allowedOrigins),
    rewriteUrl: routedUrl,
    clientErrorHandler: answerClientError,
  }).withTypeProvider<TypeBoxTypeProvider>()
  if (config.role === 'encode') app.server.maxRequestsPerSocket = ENCODER_REQUESTS_PER_CONNECTION
  // Node would answer an unknown Expect header without a problem; RFC 9110 allows to ignore it.
  app.server.on('checkExpectation', (request, reply) => app.routing(request, reply))
  // Fastify would parse text/plain to a string; a type that no route takes is 415.
  app.removeContentTypeParser('text/plain')
  return app
}

/** Node's time limits of a connection, and TLS with a certificate; slowClients has more limits. */
function connectionOptions(
  { headersTimeoutMs, keepAliveTimeoutMs: keepAliveTimeout }: Limits,
  certificate: Certificate | null,
): FastifyHttpOptions<Server> {
  const limits = {
    headersTimeout: headersTimeoutMs,
    connectionsCheckingInterval: Math.min(1000, headersTimeoutMs),
  }
  if (certificate === null) return { keepAliveTimeout, http: limits }
  // Plugins and routes treat a server with TLS like one without, so they see one type.
  const https = { ...limits, ...certificate, handshakeTimeout: headersTimeoutMs }
  return { keepAliveTimeout, https } as unknown as FastifyHttpOptions<Server>
}

function logKeysChange(log: FastifyBaseLogger, change: KeysChange): void {
  if ('error' in change) log.error(`${change.error.message} The API keys of before stay valid.`)
  else if (change.keys === 0)
    log.warn('the file of API keys is empty: every request is refused until it holds one')
  else log.info({ keys: change.keys }, 'the API keys were read again')
}

/** Null with an external engine, which has backups of its own. */
function backupJobs(
  config: Config,
  { maintenance }: Retrieval,
  log: FastifyBaseLogger,
): BackupJobs | null {
  if (maintenance === null) return null
  const backups = openBackups(backupFolderOf(config), maintenance.storage.identity)
  return new BackupJobs(backups, maintenance, log)
}

function backupFolderOf({ backupFolder, dataFolder }: Config): string {
  return backupFolder ?? join(dataFolder, 'backups')
}

function diskOf(config: Config, jobs: BackupJobs | null): DiskOptions | null {
  if (jobs === null) return null
  return { dataFolder: config.dataFolder, backupFolder: backupFolderOf(config), jobs }
}

/** Without a collector, the modules of spans are not loaded. */
async function registerSpans(app: FastifyInstance, config: Config): Promise<void> {
  if (config.otlpEndpoint === undefined) return
  const [{ spans }, { openSpanSender }] = await Promise.all([
    import('./plugins/spans.js'),
    import('./otlp-spans.js'),
  ])
  const sender = openSpanSender(config.otlpEndpoint, config.otelServiceName)
  await app.register(spans, { sender })
}
