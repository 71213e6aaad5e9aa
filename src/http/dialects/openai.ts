/**
 * Embeddings and models as OpenAI's API has them, with the extensions of infinity (`modality`, the
 * addresses without /v1), Jina (objects in `input`) and vLLM (`messages`).
 */
import { Type, type Static } from 'typebox'
import { TandemError } from '../../errors.js'
import { inputErrors } from '../plugins/documented-errors.js'
import { words } from '../schemas/fields.js'
import { contentOf, contentsOf, type Content } from './content.js'
import type { Dialect, DialectOptions, DialectRoutes } from './dialects.js'
import { errorAndMessage } from './error-members.js'
import { checkDimensions, checkModel } from './named-model.js'
import { refuseTokens } from './token-ids.js'
import { Usage, usage } from './usage.js'
import {
  EmbeddingItem,
  listOfEmbeddings,
  VECTOR_FORMATS,
  vectorsOf,
  type VectorFormat,
} from './vectors.js'

const Format = Type.Unsafe<VectorFormat>({
  ...words(...VECTOR_FORMATS),
  description: '"float", "base64" (little-endian float32), "binary" or "ubinary"',
})

const Message = Type.Object({
  role: Type.Optional(Type.String()),
  content: Type.Unknown({ description: 'a text or a list of parts' }),
})

const EmbeddingsBody = Type.Object(
  {
    model: Type.Optional(Type.String({ description: 'the name of the bundle that serves' })),
    input: Type.Optional(
      Type.Unknown({ description: 'a text, {text}, {image}, or a list of those' }),
    ),
    messages: Type.Optional(
      Type.Array(Message, {
        description: 'a list of {role, content}: one embedding of their image or texts',
      }),
    ),
    modality: Type.Optional(
      Type.Unsafe<'text' | 'image'>({
        ...words('text', 'image'),
        description: '"text" or "image": what the strings of input are',
      }),
    ),
    encoding_format: Type.Optional(Format),
    embedding_type: Type.Optional(Format),
    dimensions: Type.Optional(Type.Integer({ description: 'the number of values of the bundle' })),
  },
  { title: 'OpenaiEmbeddingsBody', description: 'an object with input' },
)
type EmbeddingsBody = Static<typeof EmbeddingsBody>

const EmbeddingsReply = Type.Object(
  {
    object: words('list'),
    model: Type.String(),
    data: Type.Array(EmbeddingItem),
    usage: Usage,
  },
  { title: 'OpenaiEmbeddingsReply', description: 'Embeddings in the order of the inputs' },
)

const Model = Type.Object(
  {
    id: Type.String(),
    object: words('model'),
    created: Type.Integer(),
    owned_by: Type.String(),
    capabilities: Type.Array(words('embed', 'image_embed', 'rerank')),
    version: Type.String(),
    dim: Type.Integer({ description: 'Values of an embedding' }),
    languages: Type.Array(Type.String()),
    rerank: Type.Boolean({ description: 'Whether the bundle has a fusion encoder' }),
    license: Type.String({ description: 'Of the weights' }),
    commercial_use: Type.Optional(
      Type.Boolean({ description: 'False if the license forbids it; absent where nobody looked' }),
    ),
    calibrated: Type.Boolean({
      description: 'Whether match was fitted on pairs; otherwise it orders and is no probability',
    }),
    stats: Type.Object({ queue_absolute: Type.Integer(), results_pending: Type.Integer() }),
  },
  { title: 'ServedModel' },
)

const Models = Type.Object(
  { object: words('list'), data: Type.Array(Model) },
  { title: 'ServedModels' },
)

const OWNER = 'tandem'

const routes: DialectRoutes = (app, options) => {
  const { retrieval } = options
  const tags = ['clients']

  for (const path of ['/v1/embeddings', '/embeddings'])
    app.post(
      path,
      {
        config: { scope: 'read', errors: ['model_not_found', ...inputErrors] },
        schema: {
          tags,
          summary: 'Embed texts and images, as OpenAI does',
          body: EmbeddingsBody,
          // Written by the handler, as JSON.
          response: { 200: Type.Unsafe<string>(EmbeddingsReply) },
        },
      },
      async (request, reply) => {
        const { body } = request
        checkModel(body.model, retrieval)
        checkDimensions(body.dimensions, 'dimensions', retrieval)
        const contents = contentsIn(body)
        const nameOf = (at: number): string =>
          Array.isArray(body.input) ? `input[${at}]` : 'input'
        const names = { name: 'input', nameOf }
        const { model, vectors } = await vectorsOf(contents, names, options, request, reply)
        const format = body.encoding_format ?? body.embedding_type ?? 'float'
        reply.type('application/json; charset=utf-8')
        return listOfEmbeddings({ model: model.name, usage }, vectors, format)
      },
    )

  // infinity's client, which calls /models, takes no other owner.
  for (const [path, owner] of [
    ['/v1/models', OWNER],
    ['/models', 'infinity'],
  ] as const)
    app.get(
      path,
      {
        schema: {
          tags,
          summary: 'The bundle that serves, as a list of models',
          response: { 200: Models },
        },
      },
      () => ({ object: 'list' as const, data: [modelOf(options, owner)] }),
    )

  app.get(
    '/v1/models/:id',
    {
      config: { errors: ['model_not_found'] },
      schema: {
        tags,
        summary: 'The bundle that serves',
        params: Type.Object({ id: Type.String() }),
        response: { 200: Model },
      },
    },
    ({ params }) => {
      checkModel(params.id, retrieval)
      return modelOf(options, OWNER)
    },
  )
}

function contentsIn({ input, messages, modality }: EmbeddingsBody): Content[] {
  if (messages !== undefined) return [contentOfMessages(messages)]
  if (input === undefined)
    throw new TandemError('invalid_request', 'input is missing; expected a text or a list.')
  refuseTokens(input, 'input')
  if (modality === undefined) return contentsOf(input, 'input')
  const asModality = (value: unknown): unknown =>
    typeof value === 'string' ? { [modality]: value } : value
  return contentsOf(Array.isArray(input) ? input.map(asModality) : asModality(input), 'input')
}

/**
 * The image of a conversation, otherwise its texts. A text beside an image is an instruction
 * ("Represent the given image."), which a dual encoder does not read; so is a system message.
 */
function contentOfMessages(messages: NonNullable<EmbeddingsBody['messages']>): Content {
  const parts = messages
    .filter(({ role }) => role !== 'system')
    .flatMap(({ content }): unknown[] => (Array.isArray(content) ? content : [content]))
  const content = contentOf(parts, 'messages')
  return content.images.length > 0 ? { images: content.images } : content
}

function modelOf({ retrieval }: DialectOptions, owner: string): Static<typeof Model> {
  const { name, version, dim, languages, imageTokens, license, commercialUse, calibrated } =
    retrieval.model
  const { queueDepth, inFlight } = retrieval.stats()
  const rerank = imageTokens.count > 0
  return {
    ...{ id: name, object: 'model', created: 0, owned_by: owner, version, dim, rerank },
    capabilities: ['embed', 'image_embed', ...(rerank ? (['rerank'] as const) : [])],
    languages: [...languages],
    license,
    ...(commercialUse !== undefined && { commercial_use: commercialUse }),
    calibrated,
    stats: { queue_absolute: queueDepth, results_pending: inFlight },
  }
}

export const dialect: Dialect = { routes, errorMembers: errorAndMessage }
