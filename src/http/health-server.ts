/** `/health/*` on a port of its own, so that probes do not depend on the connections of clients. */
import { createServer, type Server } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { Connections } from './connections.js'

const PATHS: readonly (string | undefined)[] = ['/health/live', '/health/ready']
const MAX_CONNECTIONS = 64
const TIMEOUT_MS = 5000

/** Starts to listen; always without TLS. */
export function startHealthServer(
  app: Pick<FastifyInstance, 'routing'>,
  address: { host: string; port: number },
): Promise<Server> {
  const limits = {
    headersTimeout: TIMEOUT_MS,
    requestTimeout: TIMEOUT_MS,
    connectionsCheckingInterval: 1000,
  }
  const server = createServer(limits, (request, reply) => {
    reply.shouldKeepAlive = false
    if (request.method === 'GET' && PATHS.includes(request.url)) app.routing(request, reply)
    else reply.writeHead(404).end()
  })
  new Connections(server, MAX_CONNECTIONS)
  // It answers until the process ends, and does not delay that end.
  server.unref().on('connection', (socket) => socket.unref())
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(address.port, address.host, () => resolve(server))
  })
}
