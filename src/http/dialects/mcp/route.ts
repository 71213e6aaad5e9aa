/** POST /mcp: the tools for assistants, by the streamable HTTP transport without sessions. */
import type { FastifyRequest } from 'fastify'
import { TandemError } from '../../../errors.js'
import { loggedError, prefixOf } from '../../plugins/problems.js'
import { NoQuery } from '../../schemas/fields.js'
import { McpMessage, McpReplies } from './messages.js'
import { itemReply } from '../../routes/items.js'
import { readSearchBody } from '../../routes/search.js'
import { InputReader, type InputOptions } from '../../wire/inputs.js'
import type { Dialect, DialectRoutes } from '../dialects.js'
import type { ToolService } from './tools.js'

const routes: DialectRoutes = (app, options) => {
  if (!options.hasItems) return
  app.post(
    '/mcp',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['clients'],
        operationId: 'callTools',
        summary: 'Call the tools of the Model Context Protocol',
        querystring: NoQuery,
        body: McpMessage,
        response: McpReplies,
      },
    },
    async (request, reply) => {
      const { body } = request
      if (Array.isArray(body)) {
        throw new TandemError(
          'invalid_request',
          `The body is a list of ${body.length}; expected one message: MCP has no batches since its version 2025-06-18.`,
        )
      }
      // Loaded by the first request: others pay nothing for the SDK.
      const { exchange } = await import('./exchange.js')
      const answer = await exchange(
        headOf(request),
        body,
        serviceFor(request, options),
        (error) => {
          const { message, code, retryAfterS } = loggedError(error, request)
          const advice = retryAfterS === undefined ? '' : ` Try again after ${retryAfterS} s.`
          return `${message}${advice} (${code})`
        },
      )
      // The time limit has answered.
      if (reply.sent) return reply
      const type = answer.headers.get('content-type')
      if (type !== null) reply.type(type)
      return reply.code(answer.status as keyof typeof McpReplies).send(await answer.text())
    },
  )
}

export const dialect: Dialect = { routes, errorMembers: () => ({}) }

/** The request as the SDK reads it. Each client takes JSON, so Accept decides nothing. */
function headOf({ headers, call }: FastifyRequest): Request {
  const ofProtocol = Object.entries(headers).filter(([name]) => name.startsWith('mcp-'))
  return new Request('http://service/mcp', {
    method: 'POST',
    headers: [
      ...ofProtocol.map(([name, value]): [string, string] => [name, String(value)]),
      ['content-type', 'application/json'],
      ['accept', 'application/json, text/event-stream'],
    ],
    signal: call?.signal ?? null,
  })
}

/** The service for the tools of one request, within its limits. */
function serviceFor(request: FastifyRequest, options: InputOptions): ToolService {
  const { retrieval } = options
  const { call, protocol, headers } = request
  const base = `${protocol}://${headers.host ?? 'localhost'}${prefixOf(request)}`
  return {
    search: async (body) => {
      const { query, options: plan } = await readSearchBody(body, new InputReader(options, request))
      return retrieval.search(query, plan, call)
    },
    item: async (id) => itemReply(await retrieval.get(id, call)),
    image: (id) => retrieval.image(id, call),
    imageUrl: (id) => `${base}/items/${encodeURIComponent(id)}/image`,
  }
}
