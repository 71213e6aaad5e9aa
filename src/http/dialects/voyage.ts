/** Embeddings of texts, images and both, as Voyage has them. */
import { Type } from 'typebox'
import { inputErrors } from '../plugins/documented-errors.js'
import { words } from '../schemas/fields.js'
import { contentsOf } from './content.js'
import type { Dialect, DialectRoutes } from './dialects.js'
import { errorAndMessage } from './error-members.js'
import { checkDimensions, checkModel } from './named-model.js'
import { EmbeddingItem, listOfEmbeddings, vectorsOf } from './vectors.js'

const EmbedBody = Type.Object(
  {
    model: Type.Optional(Type.String({ description: 'the name of the bundle that serves' })),
    inputs: Type.Array(Type.Unknown(), { description: 'a list of {content: [parts]}' }),
    output_dimension: Type.Optional(
      Type.Integer({ description: 'the number of values of the bundle' }),
    ),
    output_dtype: Type.Optional(
      Type.Unsafe<string>({ ...words('float'), description: '"float", the only type' }),
    ),
    encoding_format: Type.Optional(
      Type.Unsafe<string>({ ...words('base64'), description: '"base64", or no field for numbers' }),
    ),
  },
  { title: 'VoyageEmbedBody', description: 'an object with inputs' },
)

const EmbedReply = Type.Object(
  {
    object: words('list'),
    model: Type.String(),
    data: Type.Array(EmbeddingItem),
    usage: Type.Object(
      {
        text_tokens: Type.Integer(),
        image_pixels: Type.Integer(),
        video_pixels: Type.Integer(),
        total_tokens: Type.Integer(),
      },
      { description: 'Not counted: always 0' },
    ),
  },
  { title: 'VoyageEmbedReply', description: 'Embeddings in the order of the inputs' },
)
const usage = { text_tokens: 0, image_pixels: 0, video_pixels: 0, total_tokens: 0 }

const routes: DialectRoutes = (app, options) => {
  app.post(
    '/v1/multimodalembeddings',
    {
      config: { scope: 'read', errors: ['model_not_found', ...inputErrors] },
      schema: {
        tags: ['clients'],
        summary: 'Embed texts and images, as Voyage does',
        body: EmbedBody,
        // Written by the handler, as JSON.
        response: { 200: Type.Unsafe<string>(EmbedReply) },
      },
    },
    async (request, reply) => {
      const { body } = request
      checkModel(body.model, options.retrieval)
      checkDimensions(body.output_dimension, 'output_dimension', options.retrieval)
      const contents = contentsOf(body.inputs, 'inputs')
      const names = { name: 'inputs', nameOf: (at: number): string => `inputs[${at}]` }
      const { model, vectors } = await vectorsOf(contents, names, options, request, reply)
      const format = body.encoding_format === 'base64' ? 'base64' : 'float'
      reply.type('application/json; charset=utf-8')
      return listOfEmbeddings({ model: model.name, usage }, vectors, format)
    },
  )
}

export const dialect: Dialect = { routes, errorMembers: errorAndMessage }
