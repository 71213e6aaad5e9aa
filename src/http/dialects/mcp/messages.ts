import { Type } from 'typebox'
import { empty, readByRoute } from '../../schemas/fields.js'

const id = Type.Unsafe<string | number>({ type: ['string', 'integer'] })

/** The SDK validates messages and answers in the form of the protocol. */
export const McpMessage = Type.Object(
  {
    jsonrpc: Type.Literal('2.0'),
    id: Type.Optional(id),
    method: Type.String({ description: 'Such as tools/list and tools/call' }),
    params: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  },
  {
    title: 'McpMessage',
    ...readByRoute,
    examples: [
      {
        jsonrpc: '2.0',
        id: 1,
        method: 'tools/call',
        params: { name: 'search_images', arguments: { text: 'two dogs', k: 3 } },
      },
    ],
    description: 'a JSON-RPC 2.0 message of MCP',
  },
)

const McpAnswer = Type.Object(
  {
    jsonrpc: Type.Literal('2.0'),
    id: Type.Optional(Type.Unsafe<string | number | null>({ type: ['string', 'number', 'null'] })),
    result: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    error: Type.Optional(
      Type.Object({
        code: Type.Integer(),
        message: Type.String(),
        data: Type.Optional(Type.Unknown()),
      }),
    ),
  },
  { title: 'McpAnswer', description: 'A JSON-RPC 2.0 answer with result or error' },
)

const answer = (description: string) =>
  Type.Unsafe<string>({ description, content: { 'application/json': { schema: McpAnswer } } })

export const McpReplies = {
  200: answer('The result of a request, or the error that it ended with'),
  202: empty('A notification has arrived'),
  400: answer('The message is not one of MCP'),
  404: answer('There is no such method'),
}
