/** One item at a time: PUT, GET and DELETE /items/:id, its image, and the list of all. */
import { createHash } from 'node:crypto'
import multipart from '@fastify/multipart'
import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import { TandemError } from '../../errors.js'
import { inputErrors, imageErrors, readErrors, writeErrors } from '../plugins/documented-errors.js'
import { readByRoute } from '../plugins/validation.js'
import type { Addition, ListedItem } from '../../retrieval/retrieval.js'
import { ItemBody, ItemParams, ListQuery, NoQuery, PutItemQuery } from '../schemas/requests.js'
import { ItemReply, ItemsReply, PutItemReply } from '../schemas/fields.js'
import { isForm, onlyField, onlyFile, readForm } from '../wire/form.js'
import type { InputOptions } from '../wire/inputs.js'
import { limitedPayload, payloadOf } from '../wire/payload.js'
import { Images } from '../wire/image-source.js'
import { itemForm, rawImage } from '../wire/options.js'

export const itemRoutes: FastifyPluginAsync<InputOptions> = async (app, options) => {
  const { retrieval } = options
  await app.register(multipart)
  // The bytes say what an image is, whatever its Content-Type claims.
  for (const type of [/^image\//, 'application/octet-stream']) {
    app.addContentTypeParser(type, { parseAs: 'buffer' }, (_request, body, done) =>
      done(null, body),
    )
  }
  const schema = { tags: ['items'], params: ItemParams, querystring: NoQuery }

  const body = {
    content: {
      'application/json': { schema: ItemBody },
      'multipart/form-data': { schema: { ...itemForm, ...readByRoute } },
      'image/*': { schema: { ...rawImage, ...readByRoute } },
    },
  }
  const put = {
    ...schema,
    summary: 'Add or replace an item',
    querystring: PutItemQuery,
    body,
    response: { 200: PutItemReply, 201: PutItemReply },
  }
  const puts = {
    audited: 'add',
    priority: 'bulk',
    errors: [...inputErrors, ...writeErrors, 'payload_invalid'],
  } as const
  app.put('/items/:id', { config: puts, schema: put }, async (request, reply) => {
    const addition = await additionOf(request, options)
    const { status, timings } = await retrieval.add(addition, request.call)
    reply.code(status === 'created' ? 201 : 200)
    return { id: addition.id, status, timings: reply.timed(timings) }
  })

  const one = { errors: ['item_not_found', ...readErrors, ...imageErrors] } as const
  const read = { ...schema, summary: 'An item', response: { 200: ItemReply } }
  app.get('/items/:id', { config: one, schema: read }, async (request) =>
    itemReply(await retrieval.get(idOf(request), request.call)),
  )

  const removal = {
    ...schema,
    summary: 'Remove an item',
    response: { 204: { type: 'null', description: 'Removed, on disk too' } },
  }
  const removes = { audited: 'remove', errors: ['item_not_found', ...writeErrors] } as const
  app.delete('/items/:id', { config: removes, schema: removal }, async (request, reply) => {
    const id = idOf(request)
    if (!(await retrieval.remove(id, request.call)))
      throw new TandemError('item_not_found', `There is no item with the id "${id}".`)
    return reply.code(204).send()
  })

  const image = {
    200: { description: 'The image', content: { 'image/jpeg': { schema: rawImage } } },
    304: { type: 'null', description: 'The image that If-None-Match names' },
  }
  app.get(
    '/items/:id/image',
    {
      config: one,
      schema: { ...schema, summary: 'The stored image, an upright JPEG', response: image },
    },
    async (request, reply) => {
      const bytes = await retrieval.image(idOf(request), request.call)
      const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`
      // The same address shows another image once the item is replaced, so it is always asked for
      // again.
      reply.headers({
        etag,
        'cache-control': 'private, no-cache',
        'content-security-policy': "default-src 'none'; sandbox",
      })
      if (request.headers['if-none-match']?.includes(etag) === true) return reply.code(304).send()
      return reply.type('image/jpeg').send(bytes)
    },
  )

  const list = {
    tags: ['items'],
    summary: 'List items',
    querystring: ListQuery,
    response: { 200: ItemsReply },
  }
  app.get('/items', { config: { errors: readErrors }, schema: list }, async (request) => {
    const { limit = 100, after } = request.query as Static<typeof ListQuery>
    const { items, next } = await retrieval.list({ limit, after }, request.call)
    return { items: items.map(itemReply), next }
  })
}

function idOf(request: FastifyRequest): string {
  return (request.params as Static<typeof ItemParams>).id
}

function itemReply({ id, payload, image, addedAt }: ListedItem): Static<typeof ItemReply> {
  const { mime, width, height, size } = image
  return {
    id,
    payload: payload === null ? null : { ...payload },
    image: { mime, width, height, bytes: size },
    added_at: addedAt,
  }
}

/** The image and payload of a PUT, whichever of the three bodies they came in. */
async function additionOf(
  request: FastifyRequest,
  { limits, fetchImage }: InputOptions,
): Promise<Addition> {
  const id = idOf(request)
  const { payload: inAddress } = request.query as Static<typeof PutItemQuery>
  const inHeader = request.headers['x-tandem-payload'] as string | undefined
  if (Buffer.isBuffer(request.body)) {
    if (request.body.length === 0)
      throw new TandemError('body_missing', 'The body is empty; expected the bytes of an image.')
    if (inAddress !== undefined && inHeader !== undefined) {
      throw new TandemError(
        'options_conflict',
        'The payload is given twice: as the parameter payload and as the header x-tandem-payload.',
      )
    }
    return {
      id,
      image: request.body,
      payload: payloadOf(
        inAddress ?? inHeader,
        inAddress === undefined ? 'x-tandem-payload' : 'payload',
      ),
    }
  }
  if (inAddress !== undefined || inHeader !== undefined) {
    throw new TandemError(
      'options_conflict',
      'The payload of a form or a JSON body belongs in it, not in the address or a header.',
    )
  }
  if (isForm(request)) {
    const parts = await readForm(request, { fields: ['payload'], files: ['image'] }, limits)
    return {
      id,
      image: onlyFile(parts),
      payload: payloadOf(onlyField(parts, 'payload'), 'payload'),
    }
  }
  const { image, payload } = request.body as ItemBody
  const stored = limitedPayload(payload)
  const images = new Images(fetchImage, limits, request.call?.signal)
  return { id, image: await images.read(image, 'image'), payload: stored }
}
