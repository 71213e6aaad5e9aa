/** GET and POST /search: the items that answer a sentence, an image or "more like this item". */
import multipart from '@fastify/multipart'
import type { FastifyPluginAsync } from 'fastify'
import type { Static } from 'typebox'
import { TandemError } from '../../errors.js'
import { encoderErrors, inputErrors, readErrors } from '../plugins/documented-errors.js'
import { readByRoute } from '../plugins/validation.js'
import type { Query } from '../../retrieval/retrieval.js'
import { NoQuery, SearchBody, SearchOptions, SearchQuery } from '../schemas/requests.js'
import { SearchReply } from '../schemas/fields.js'
import { filterOf } from '../wire/filter.js'
import {
  fieldValues,
  isForm,
  onlyField,
  onlyFile,
  readForm,
  type FormField,
  type FormFile,
} from '../wire/form.js'
import { limitedText, queryOf, type InputLimits, type InputOptions } from '../wire/inputs.js'
import { Images } from '../wire/image-source.js'
import { searchForm, searchOptions } from '../wire/options.js'

export const searchRoutes: FastifyPluginAsync<InputOptions> = async (app, options) => {
  const { retrieval, limits, fetchImage } = options
  await app.register(multipart)
  const schema = { tags: ['search'], response: { 200: SearchReply } }

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
      schema: { ...schema, summary: 'Search by a sentence', querystring: SearchQuery },
    },
    async (request, reply) => {
      const { q, ...given } = request.query as Static<typeof SearchQuery>
      const query = { text: limitedText(q, 'q', limits) }
      const { hits, timings } = await retrieval.search(query, optionsOf(given), request.call)
      return { hits, timings: reply.timed(timings) }
    },
  )

  const body = {
    content: {
      'application/json': { schema: SearchBody },
      'multipart/form-data': { schema: { ...searchForm, ...readByRoute } },
    },
  }
  app.post(
    '/search',
    {
      config: { scope: 'read', errors: ['item_not_found', ...readErrors, ...inputErrors] },
      schema: {
        ...schema,
        summary: 'Search by a sentence, an image or an item',
        querystring: NoQuery,
        body,
      },
    },
    async (request, reply) => {
      const { query, given } = isForm(request)
        ? fromForm(await readForm(request, { fields: optionNames, files: ['image'] }, limits))
        : await fromJson(
            request.body as SearchBody,
            limits,
            new Images(fetchImage, limits, request.call?.signal),
          )
      const { hits, timings } = await retrieval.search(query, optionsOf(given), request.call)
      return { hits, timings: reply.timed(timings) }
    },
  )
}

const optionNames = Object.keys(SearchOptions.properties)

/** Options as a body has them, or as an address or a form does. */
type Given = Omit<SearchOptions, 'filter'> & { filter?: string | object }

function optionsOf({ k, candidates, rerank, min_match: minMatch, filter }: Given) {
  return { k, candidates, rerank, minMatch, filter: filterOf(filter) }
}

async function fromJson(
  body: SearchBody,
  limits: InputLimits,
  images: Images,
): Promise<{ query: Query; given: Given }> {
  const { text, image, id, ...given } = body
  const kinds = Object.entries({ text, image, id }).filter(([, value]) => value !== undefined)
  if (kinds.length !== 1) {
    const found = kinds.length === 0 ? 'none of them' : kinds.map(([name]) => name).join(' and ')
    throw new TandemError(
      'invalid_request',
      `A search takes exactly one of text, image, id; the body has ${found}.`,
    )
  }
  const one = Object.fromEntries(kinds) as { text?: string; image?: string; id?: string }
  if (typeof text === 'string') return { query: { text: limitedText(text, 'text', limits) }, given }
  return { query: await queryOf(one, 'body', limits, images), given }
}

function fromForm(parts: readonly (FormField | FormFile)[]): { query: Query; given: Given } {
  const fields = optionNames.filter((name) => fieldValues(parts, name).length > 0)
  const given = searchOptions(
    Object.fromEntries(fields.map((name) => [name, onlyField(parts, name) ?? ''])),
  )
  return { query: { image: onlyFile(parts) }, given }
}
