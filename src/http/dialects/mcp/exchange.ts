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
    return withSentence(await transport.handleRequest(request, { parsedBody: message }))
  } finally {
    await server.close()
  }
}

/** JSON-RPC 2.0, section 5.1. */
const INVALID_PARAMS = -32602
const INTERNAL_ERROR = -32603

interface Answer {
  error?: { code: number; message: string }
}

/**
 * The SDK answers parameters that its schema of a method refuses as an internal error, with the
 * list of its validator as the message.
 */
async function withSentence(response: Response): Promise<Response> {
  const text = await response.text()
  const { status, headers } = response
  try {
    const answer = JSON.parse(text) as Answer
    if (answer.error?.code === INTERNAL_ERROR) {
      const issues = JSON.parse(answer.error.message) as { path: string[]; message: string }[]
      const message = issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')
      const body = { ...answer, error: { code: INVALID_PARAMS, message } }
      return new Response(JSON.stringify(body), { status, headers })
    }
  } catch {
    // An answer of another form.
  }
  return new Response(text === '' ? null : text, { status, headers })
}
