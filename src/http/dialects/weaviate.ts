/** The inference container of Weaviate's module multi2vec-clip. */
import { Type } from 'typebox'
import { inputErrors } from '../plugins/documented-errors.js'
import { checkReady } from '../routes/health.js'
import { empty } from '../schemas/fields.js'
import { contentOf } from './content.js'
import type { Dialect, DialectRoutes } from './dialects.js'
import { Vector, vectorsOf, vectorText } from './vectors.js'

const VectorizeBody = Type.Object(
  {
    texts: Type.Optional(Type.Array(Type.String(), { description: 'a list of texts' })),
    images: Type.Optional(Type.Array(Type.String(), { description: 'a list of images in base64' })),
  },
  { title: 'VectorizeBody', description: 'an object with texts and images' },
)

const VectorizeReply = Type.Object(
  { textVectors: Type.Array(Vector), imageVectors: Type.Array(Vector), error: Type.String() },
  { title: 'VectorizeReply', description: 'Embeddings in the order of the inputs' },
)

const routes: DialectRoutes = (app, options) => {
  const { retrieval, readiness } = options
  const tags = ['clients']

  app.post(
    '/vectorize',
    {
      config: { scope: 'read', errors: inputErrors },
      schema: {
        tags,
        summary: 'Embed texts and images, as multi2vec-clip does',
        body: VectorizeBody,
        // Written by the handler, as JSON.
        response: { 200: Type.Unsafe<string>(VectorizeReply) },
      },
    },
    async (request, reply) => {
      const { texts = [], images = [] } = request.body
      const nameOf = (at: number): string =>
        at < texts.length ? `texts[${at}]` : `images[${at - texts.length}]`
      const inputs = [...texts.map((text) => ({ text })), ...images.map((image) => ({ image }))]
      const contents = inputs.map((input, at) => contentOf(input, nameOf(at)))
      const names = { name: 'The body', nameOf }
      const { vectors } = await vectorsOf(contents, names, options, request, reply)
      reply.type('application/json; charset=utf-8')
      const rows = vectors.map((vector) => vectorText(vector, 'float'))
      const [textRows, imageRows] = [rows.slice(0, texts.length), rows.slice(texts.length)]
      return `{"textVectors":[${textRows.join()}],"imageVectors":[${imageRows.join()}],"error":""}`
    },
  )

  app.get(
    '/meta',
    {
      schema: {
        tags,
        summary: 'The bundle that serves, for Weaviate',
        response: {
          200: Type.Object({ model: Type.String(), version: Type.String(), dim: Type.Integer() }),
        },
      },
    },
    () => {
      const { name, version, dim } = retrieval.model
      return { model: name, version, dim }
    },
  )

  for (const state of ['live', 'ready'])
    app.get(
      `/.well-known/${state}`,
      {
        config: { open: true, rateLimit: false, errors: ['not_ready'] },
        schema: {
          tags,
          summary: `Whether the service is ${state}, for Weaviate`,
          response: { 204: empty('It is') },
        },
      },
      async (_request, reply) => {
        if (state === 'ready') checkReady(readiness, retrieval)
        return reply.code(204).send()
      },
    )
}

/** Weaviate reads the sentence of a failure in `error`. */
export const dialect: Dialect = { routes, errorMembers: ({ detail }) => ({ error: detail }) }
