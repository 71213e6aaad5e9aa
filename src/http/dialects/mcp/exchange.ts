/** One request of MCP over HTTP: a server for it alone, so no session outlives a request. */
import {
  createMcpHandler,
  isLegacyRequest,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server'
import { toolServer, type ErrorText } from './server.js'
import type { ToolService } from './tools.js'

/**
 * Answers a message of the protocol of 2026, or of 2025 and before.
 *
 * @param request - its headers; the body is `message`
 * @param textOf - the sentence for an error of a tool
 */
export async function exchange(
  request: Request,
  message: unknown,
  service: ToolService,
  textOf: ErrorText,
): Promise<Response> {
  const newServer = () => toolServer(service, textOf)
  if (!(await isLegacyRequest(request, message))) {
    // The tools never change, so no client needs a stream of changes.
    const handler = createMcpHandler(newServer, { legacy: 'reject', maxSubscriptions: 0 })
    return handler.fetch(request, { parsedBody: message })
  }
  const server = newServer()
  const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true })
  try {
    await server.connect(transport)
    return await transport.handleRequest(request, { parsedBody: message })
  } finally {
    await server.close()
  }
}
