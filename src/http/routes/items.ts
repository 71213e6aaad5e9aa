/** One item: PUT, GET and DELETE /items/:id, its image; and the list of all. */
import { createHash } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { TandemError } from '../../errors.js'
import type { Addition, ListedItem, PutCondition } from '../../retrieval/retrieval.js'
import { readBytes } from '../plugins/bodies.js'
import { imageErrors, inputErrors, readErrors, writeErrors } from '../plugins/documented-errors.js'
import { bodyIn, empty, ImageFile, NoQuery } from '../schemas/fields.js'
import {
  ItemBody,
  ItemForm,
  ItemParams,
  ItemReply,
  ItemsReply,
  ListQuery,
  PutItemQuery,
  PutItemReply,
} from '../schemas/items.js'
import { headerText } from '../utf8.js'
import { onlyField, onlyFile, readForm } from '../wire/form.js'
import { InputReader, type InputOptions } from '../wire/inputs.js'
import { limitedPayload, payloadOf } from '../wire/payload.js'

export const itemRoutes: FastifyPluginAsyncTypebox<InputOptions> = async (app, options) => {
  const { retrieval } = options
  await app.register(multipart)
  // The type of an image is read from its bytes, so any Content-Type of an image will do.
  for (const type of [/^image\//, 'application/octet-stream'])
    app.addContentTypeParser(type, readBytes)
  const tags = ['items']
  const item = { tags, params: ItemParams, querystring: NoQuery }

  app.put(
    '/items/:id',
    {
      config: {
        audited: 'add',
        priority: 'bulk',
        errors: [...inputErrors, ...writeErrors, 'payload_invalid', 'precondition_failed'],
      },
      schema: {
        ...item,
        operationId: 'putItem',
        summary: 'Add or replace an item',
        querystring: PutItemQuery,
        body: bodyIn<ItemBody | Buffer | undefined>({
          'application/json': ItemBody,
          'multipart/form-data': ItemForm,
          'image/*': ImageFile,
        }),
        response: { 200: PutItemReply, 201: PutItemReply },
      },
    },
    async (request, reply) => {
      const { params, query, body, call } = request
      const item = await readItem(request, body, query.payload, options)
      const condition = conditionOf(request.headers)
      const { status, timings } = await retrieval.add({ id: params.id, ...item }, call, condition)
      return reply
        .code(status === 'created' ? 201 : 200)
        .send({ id: params.id, status, timings: reply.timed(timings) })
    },
  )

  app.get(
    '/items/:id',
    {
      config: { errors: ['item_not_found', ...readErrors, ...imageErrors] },
      schema: { ...item, operationId: 'getItem', summary: 'An item', response: { 200: ItemReply } },
    },
    async ({ params, call }, reply) => {
      const found = await retrieval.get(params.id, call)
      return reply.header('etag', itemTag(found)).send(itemReply(found))
    },
  )

  app.delete(
    '/items/:id',
    {
      config: { audited: 'remove', errors: ['item_not_found', ...writeErrors] },
      schema: {
        ...item,
        operationId: 'removeItem',
        summary: 'Remove an item',
        response: { 204: empty('Removed, on disk too') },
      },
    },
    async ({ params: { id }, call }, reply) => {
      if (!(await retrieval.remove(id, call))) throw new TandemError('item_not_found', { id })
      return reply.code(204).send()
    },
  )

  app.get(
    '/items/:id/image',
    {
      config: { errors: ['item_not_found', ...readErrors, ...imageErrors] },
      schema: {
        ...item,
        operationId: 'getImage',
        summary: 'The stored image, an upright JPEG',
        response: {
          200: {
            description: 'The image',
            content: { 'image/jpeg': { schema: Type.Unsafe<Uint8Array>(ImageFile) } },
          },
          304: empty('The image that If-None-Match names'),
        },
      },
    },
    async ({ params, call, headers }, reply) => {
      const bytes = await retrieval.image(params.id, call)
      const etag = tagOf(bytes)
      reply.headers({
        etag,
        // The image of an id changes when the item is replaced.
        'cache-control': 'private, no-cache',
        'content-security-policy': "default-src 'none'; sandbox",
      })
      if (headers['if-none-match']?.includes(etag) === true) return reply.code(304).send()
      return reply.type('image/jpeg').send(bytes)
    },
  )

  app.get(
    '/items',
    {
      config: { errors: readErrors },
      schema: {
        tags,
        operationId: 'listItems',
        summary: 'List items',
        querystring: ListQuery,
        response: { 200: ItemsReply },
      },
    },
    async ({ query: { limit = 100, after }, call }) => {
      const { items, next } = await retrieval.list({ limit, after }, call)
      return { items: items.map(itemReply), next }
    },
  )
}

function tagOf(content: string | Uint8Array): string {
  return `"${createHash('sha256').update(content).digest('base64url').slice(0, 22)}"`
}

function itemTag({ payload, image, addedAt }: ListedItem): string {
  return tagOf(JSON.stringify([addedAt, payload, image]))
}

/** If-Match and If-None-Match of a PUT: `*`, or ETags of the item or of its image. */
function conditionOf(headers: IncomingHttpHeaders): PutCondition | undefined {
  const { 'if-match': match, 'if-none-match': noneMatch } = headers
  if (match === undefined && noneMatch === undefined) return undefined
  return (stored) => {
    if (stored === undefined) return match === undefined
    const tags = [itemTag(stored.item), tagOf(stored.image ?? '')]
    const isNamed = (list: string): boolean =>
      list.trim() === '*' || tags.some((tag) => list.includes(tag))
    return (
      (match === undefined || isNamed(match)) && (noneMatch === undefined || !isNamed(noneMatch))
    )
  }
}

/** An item as the API shows it. */
export function itemReply({ id, payload, image, addedAt }: ListedItem): ItemReply {
  const { mime, width, height, size } = image
  return {
    id,
    payload: payload && { ...payload },
    image: { mime, width, height, bytes: size },
    added_at: addedAt,
  }
}

/** Image and payload of a PUT. The payload of a file comes in the address or a header. */
async function readItem(
  request: FastifyRequest,
  body: ItemBody | Buffer | undefined,
  inAddress: string | undefined,
  options: InputOptions,
): Promise<Omit<Addition, 'id'>> {
  const header = request.headers['x-tandem-payload'] as string | undefined
  const inHeader = header === undefined ? undefined : headerText(header, 'x-tandem-payload')
  if (Buffer.isBuffer(body)) {
    if (body.length === 0)
      throw new TandemError('body_missing', 'The body is empty; expected the bytes of an image.')
    if (inAddress === undefined)
      return { image: body, payload: payloadOf(inHeader, 'x-tandem-payload') }
    if (inHeader === undefined) return { image: body, payload: payloadOf(inAddress, 'payload') }
    throw new TandemError(
      'options_conflict',
      'The payload is given twice: as the parameter payload and as the header x-tandem-payload.',
    )
  }
  if (inAddress !== undefined || inHeader !== undefined) {
    throw new TandemError(
      'options_conflict',
      'The payload of a form or a JSON body belongs in it, not in the address or a header.',
    )
  }
  if (body === undefined) {
    const parts = await readForm(request, { fields: ['payload'], files: ['image'] }, options.limits)
    const payload = payloadOf(onlyField(parts, 'payload'), 'payload')
    return { image: onlyFile(parts), payload }
  }
  const payload = limitedPayload(body.payload, request.longStrings)
  const reader = new InputReader(options, request)
  return { image: await reader.image(body.image, 'image'), payload }
}
