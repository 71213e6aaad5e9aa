/** The tools as a server of the Model Context Protocol, for any transport of its SDK. */
import {
  fromJsonSchema,
  McpServer,
  type CallToolResult,
  type JsonSchemaType,
  type StandardSchemaWithJSON,
} from '@modelcontextprotocol/server'
import type { TSchema } from 'typebox'
import { packageInfo } from '../../../config.js'
import { compileExact } from '../../plugins/validation.js'
import { sentenceFor } from '../../plugins/validation-message.js'
import { tools, type ToolService } from './tools.js'

const READ_ONLY = {
  readOnlyHint: true,
  destructiveHint: false,
  idempotentHint: true,
  openWorldHint: false,
}
const INSTRUCTIONS =
  'Tandem finds images by sentences. Describe in search_images what the image shows, read match as a probability, and look at promising hits with view_image.'

/** The sentence for an error of a tool; it becomes the answer. */
export type ErrorText = (error: unknown) => string

const schemas = new Map(
  tools.map(({ name, takes, answers }) => [
    name,
    { inputSchema: standardSchema(takes), outputSchema: standardSchema(answers) },
  ]),
)

/** A server with all tools, not connected yet. */
export function toolServer(service: ToolService, textOf: ErrorText): McpServer {
  const server = new McpServer(
    { name: 'tandem', title: 'Tandem image search', version: packageInfo.version },
    { instructions: INSTRUCTIONS, capabilities: { tools: { listChanged: false } } },
  )
  for (const tool of tools) {
    const { name, title, description } = tool
    const config = {
      title,
      description,
      annotations: { title, ...READ_ONLY },
      ...schemas.get(name),
    }
    server.registerTool(name, config, async (args): Promise<CallToolResult> => {
      try {
        const { images, structured } = await tool.run(args as never, service)
        const text = JSON.stringify(structured)
        return { content: [...images, { type: 'text', text }], structuredContent: structured }
      } catch (error) {
        return { content: [{ type: 'text', text: textOf(error) }], isError: true }
      }
    })
  }
  return server
}

/**
 * The schema for the SDK, with the validation of the HTTP API. The published one is without
 * patterns: other languages cannot compile those with properties of characters.
 */
function standardSchema(schema: TSchema): StandardSchemaWithJSON {
  const validate = compileExact(schema)
  const withoutPatterns = (key: string, value: unknown): unknown =>
    key === 'pattern' && typeof value === 'string' ? undefined : value
  const published = JSON.parse(JSON.stringify(schema, withoutPatterns)) as JsonSchemaType
  return fromJsonSchema(published, {
    getValidator:
      <Value>() =>
      (input) =>
        validate(input)
          ? { valid: true, data: input as Value, errorMessage: undefined }
          : {
              valid: false,
              data: undefined,
              errorMessage: sentenceFor(validate.errors ?? [], 'field'),
            },
  })
}
