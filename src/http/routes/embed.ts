/** POST /embed: texts and images in, their embeddings out. */
import multipart from '@fastify/multipart'
import type { FastifyPluginAsync } from 'fastify'
import { inputErrors } from '../plugins/documented-errors.js'
import { readByRoute } from '../plugins/validation.js'
import type { Input } from '../../retrieval/retrieval.js'
import { EmbedBody, NoQuery } from '../schemas/requests.js'
import { EmbedReply } from '../schemas/fields.js'
import { base64OfFloats, jsonOfFloats } from '../wire/embedding-text.js'
import { isFile, onlyField, readForm, isForm, type FormField, type FormFile } from '../wire/form.js'
import {
  inputOf,
  limitBatch,
  limitedText,
  MOST_INTERACTIVE,
  type InputLimits,
  type InputOptions,
} from '../wire/inputs.js'
import { Images } from '../wire/image-source.js'
import { embedForm, encodingFormat, filledText } from '../wire/options.js'

type Format = 'float' | 'base64'

export const embedRoutes: FastifyPluginAsync<InputOptions> = async (app, options) => {
  const { retrieval, limits, fetchImage } = options
  await app.register(multipart)

  const body = {
    content: {
      'application/json': { schema: EmbedBody },
      'multipart/form-data': { schema: { ...embedForm, ...readByRoute } },
    },
  }
  app.post(
    '/embed',
    {
      config: { scope: 'read', errors: inputErrors },
      schema: {
        tags: ['embed'],
        summary: 'Embed texts and images',
        querystring: NoQuery,
        body,
        response: { 200: EmbedReply },
      },
    },
    async (request, reply) => {
      const { inputs, format } = isForm(request)
        ? fromForm(
            await readForm(
              request,
              { fields: ['text', 'encoding_format'], files: ['image'] },
              limits,
            ),
            limits,
          )
        : await fromJson(
            request.body as EmbedBody,
            limits,
            new Images(fetchImage, limits, request.call?.signal),
          )
      const call = inputs.length > MOST_INTERACTIVE ? reply.asBulk() : request.call
      const { model, embeddings, timings } = await retrieval.embed(inputs, call)
      reply.type('application/json; charset=utf-8')
      return written(
        { model: model.name, dim: model.dim },
        inputs,
        embeddings,
        format,
        reply.timed(timings),
      )
    },
  )
}

async function fromJson(
  body: EmbedBody,
  limits: InputLimits,
  images: Images,
): Promise<{ inputs: Input[]; format: Format }> {
  limitBatch(body.inputs.length, 'inputs', limits)
  const inputs = await Promise.all(
    body.inputs.map((input, at) => inputOf(input, `inputs[${at}]`, limits, images)),
  )
  return { inputs, format: body.encoding_format ?? 'float' }
}

function fromForm(
  parts: readonly (FormField | FormFile)[],
  limits: InputLimits,
): { inputs: Input[]; format: Format } {
  const given = parts.filter((part) => isFile(part) || part.name === 'text')
  limitBatch(given.length, 'The form', limits)
  const inputs = given.map((part, at) =>
    isFile(part)
      ? { image: part.bytes }
      : { text: limitedText(filledText(part.value), `inputs[${at}]`, limits) },
  )
  return { inputs, format: encodingFormat(onlyField(parts, 'encoding_format')) }
}

/** An `EmbedReply`, written here. */
function written(
  about: Pick<EmbedReply, 'model' | 'dim'>,
  inputs: readonly Input[],
  embeddings: readonly Float32Array[],
  format: Format,
  timings: EmbedReply['timings'],
): string {
  const rows = embeddings.map((embedding, index) => {
    const type = 'text' in (inputs[index] as Input) ? 'text' : 'image'
    const text = format === 'float' ? jsonOfFloats(embedding) : `"${base64OfFloats(embedding)}"`
    return `{"index":${index},"type":"${type}","embedding":${text}}`
  })
  return `${JSON.stringify(about).slice(0, -1)},"embeddings":[${rows.join(',')}],"timings":${JSON.stringify(timings)}}`
}
