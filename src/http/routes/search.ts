/** GET and POST /search: the items that match a text, an image or another item. */
import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { TandemError } from '../../errors.js'
import type { Query, Retrieval, SearchOptions } from '../../retrieval/retrieval.js'
import { encoderErrors, inputErrors, readErrors } from '../plugins/documented-errors.js'
import { bodyIn, NoQuery } from '../schemas/fields.js'
import { SearchBody, SearchForm, SearchQuery, SearchReply } from '../schemas/search.js'
import { onlyFile, readForm } from '../wire/form.js'
import { InputReader, type InputLimits, type InputOptions } from '../wire/inputs.js'
import { formOptions, OPTION_NAMES, searchOptions } from '../wire/options.js'

export const searchRoutes: FastifyPluginAsyncTypebox<InputOptions> = async (app, options) => {
  const { retrieval, limits } = options
  await app.register(multipart)

  app.get(
    '/search',
    {
      config: {
        errors: [
          'text_too_long',
          'options_conflict',
          'model_unavailable',
          ...readErrors,
          ...encoderErrors,
        ],
      },
      schema: {
        tags: ['search'],
        operationId: 'searchByText',
        summary: 'Search by a text',
        querystring: SearchQuery,
        response: { 200: SearchReply },
      },
    },
    async (request, reply) => {
      const { q, ...rest } = request.query
      const query = { text: new InputReader(options).text(q, 'q') }
      const found = await retrieval.search(query, searchOptions(rest), request.call)
      return replyOf(found, reply)
    },
  )

  app.post(
    '/search',
    {
      config: { scope: 'read', errors: ['item_not_found', ...readErrors, ...inputErrors] },
      schema: {
        tags: ['search'],
        operationId: 'search',
        summary: 'Search by a text, an image or an item',
        querystring: NoQuery,
        body: bodyIn<SearchBody | undefined>({
          'application/json': SearchBody,
          'multipart/form-data': SearchForm,
        }),
        response: { 200: SearchReply },
      },
    },
    async (request, reply) => {
      const search =
        request.body === undefined
          ? await readSearchForm(request, limits)
          : await readSearchBody(request.body, new InputReader(options, request))
      const found = await retrieval.search(search.query, search.options, request.call)
      return replyOf(found, reply)
    },
  )
}

function replyOf(
  { hits, notices, textEncoder, timings }: Awaited<ReturnType<Retrieval['search']>>,
  reply: FastifyReply,
): SearchReply {
  const encoder = textEncoder && { text_encoder: { languages: [...textEncoder.languages] } }
  return { hits, notices, ...encoder, timings: reply.timed(timings) }
}

interface Search {
  query: Query
  options: SearchOptions
}

async function readSearchForm(request: FastifyRequest, limits: InputLimits): Promise<Search> {
  const parts = await readForm(request, { fields: OPTION_NAMES, files: ['image'] }, limits)
  return { query: { image: onlyFile(parts) }, options: formOptions(parts) }
}

/** @throws TandemError invalid_request unless the body has exactly one query */
export async function readSearchBody(
  { text, image, id, ...rest }: SearchBody,
  reader: InputReader,
): Promise<Search> {
  const inputs = Object.entries({ text, image, id }).filter(([, value]) => value !== undefined)
  if (inputs.length !== 1) {
    const names = inputs.length === 0 ? 'none of them' : inputs.map(([name]) => name).join(' and ')
    throw new TandemError(
      'invalid_request',
      `A search takes exactly one of text, image, id; the body has ${names}.`,
    )
  }
  const options = searchOptions(rest)
  if (text !== undefined) return { query: { text: reader.text(text, 'text') }, options }
  if (id !== undefined) return { query: { id }, options }
  return { query: { image: await reader.image(image ?? '', 'image') }, options }
}
