/** The search of clip-retrieval's back end, for its ClipClient. */
import { Type, type Static } from 'typebox'
import { TandemError } from '../../errors.js'
import type { Payload, Query } from '../../retrieval/retrieval.js'
import { inputErrors, readErrors } from '../plugins/documented-errors.js'
import { words } from '../schemas/fields.js'
import { InputReader } from '../wire/inputs.js'
import { contentOf } from './content.js'
import type { Dialect, DialectRoutes } from './dialects.js'
import { errorAndMessage } from './error-members.js'
import { warnInHeader } from './warnings.js'

const MAX_HITS = 1000

const KnnBody = Type.Object(
  {
    text: Type.Optional(Type.String({ description: 'a text' })),
    image: Type.Optional(Type.String({ description: 'an image in base64' })),
    image_url: Type.Optional(Type.String({ description: 'the URL of an image' })),
    embedding_input: Type.Optional(Type.Unknown({ description: 'no field: not supported' })),
    modality: Type.Optional(
      Type.Unsafe<'image'>({ ...words('image'), description: '"image": the items are images' }),
    ),
    num_images: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_HITS,
        description: `a whole number from 1 to ${MAX_HITS}: hits to return`,
      }),
    ),
  },
  { title: 'KnnBody', description: 'an object with text, image or image_url' },
)
type KnnBody = Static<typeof KnnBody>

const KnnReply = Type.Array(
  Type.Object({
    id: Type.String(),
    similarity: Type.Number(),
    url: Type.String({ description: 'Of the stored image' }),
    caption: Type.Optional(Type.String()),
  }),
  { title: 'KnnReply', description: 'Hits, best first' },
)

const routes: DialectRoutes = (app, options) => {
  if (!options.hasItems) return

  app.post(
    '/knn-service',
    {
      config: { scope: 'read', errors: [...readErrors, ...inputErrors] },
      schema: {
        tags: ['clients'],
        summary: 'Search, as clip-retrieval does',
        body: KnnBody,
        response: { 200: KnnReply },
      },
    },
    async (request, reply) => {
      const query = await queryIn(request.body, new InputReader(options, request))
      const search = { k: request.body.num_images }
      const { hits, notices, timings } = await options.retrieval.search(query, search, request.call)
      reply.timed(timings)
      const warnings = notices.map(({ detail }) => detail)
      warnInHeader(reply, warnings)
      const base = `${request.protocol}://${request.host}/items/`
      return hits.map(({ id, similarity, payload }) => ({
        ...{ id, similarity, url: `${base}${encodeURIComponent(id)}/image` },
        ...captionOf(payload),
      }))
    },
  )
}

/** @throws TandemError invalid_request unless there is exactly one of text, image and image_url */
async function queryIn(body: KnnBody, reader: InputReader): Promise<Query> {
  const { text, image, image_url: url } = body
  if (body.embedding_input !== undefined)
    throw new TandemError(
      'invalid_request',
      'embedding_input is not supported; expected text, image or image_url.',
    )
  const sources = Object.entries({ text, image, image_url: url }).filter(
    ([, value]) => value !== undefined,
  )
  if (sources.length !== 1) {
    const given = sources.map(([name]) => name).join(' and ')
    throw new TandemError(
      'invalid_request',
      `The request takes exactly one of text, image and image_url; the body has ${given === '' ? 'none of them' : given}.`,
    )
  }
  if (text !== undefined) {
    contentOf({ text }, 'text')
    return { text: reader.text(text, 'text') }
  }
  return {
    image: await reader.image(image ?? url ?? '', image === undefined ? 'image_url' : 'image'),
  }
}

/** The field of a payload that clip-retrieval's metadata would have as caption. */
function captionOf(payload: Payload | null): { caption?: string } {
  const caption = payload?.['caption'] ?? payload?.['title']
  return typeof caption === 'string' ? { caption } : {}
}

export const dialect: Dialect = { routes, errorMembers: errorAndMessage }
