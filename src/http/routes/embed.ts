/** POST /embed: the embeddings of texts and images. */
import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type, type Static } from 'typebox'
import type { Input } from '../../retrieval/retrieval.js'
import { inputErrors } from '../plugins/documented-errors.js'
import { checked, compileExact } from '../plugins/validation.js'
import { EmbedBody, EmbedForm, EmbedReply, EncodingFormat } from '../schemas/embed.js'
import { bodyIn, Language, NoQuery, Text } from '../schemas/fields.js'
import { base64OfFloats, jsonOfFloats } from '../wire/embedding-text.js'
import { isFile, onlyField, readForm } from '../wire/form.js'
import {
  InputReader,
  MAX_INTERACTIVE,
  type InputLimits,
  type InputOptions,
} from '../wire/inputs.js'

interface Embed {
  inputs: Input[]
  language: string | undefined
  format: EncodingFormat
}

export const embedRoutes: FastifyPluginAsyncTypebox<InputOptions> = async (app, options) => {
  const { retrieval, limits } = options
  await app.register(multipart)

  app.post(
    '/embed',
    {
      config: { scope: 'read', errors: inputErrors },
      schema: {
        tags: ['embed'],
        operationId: 'embed',
        summary: 'Embed texts and images',
        querystring: NoQuery,
        body: bodyIn<EmbedBody | undefined>({
          'application/json': EmbedBody,
          'multipart/form-data': EmbedForm,
        }),
        // Written by the handler, as JSON.
        response: { 200: Type.Unsafe<string>(EmbedReply) },
      },
    },
    async (request, reply) => {
      const reader = new InputReader(options, request)
      const { inputs, language, format } =
        request.body === undefined
          ? await readEmbedForm(request, reader, limits)
          : await readEmbedBody(request.body, reader)
      const call = inputs.length > MAX_INTERACTIVE ? request.admission.asBulk() : request.call
      const { model, embeddings, timings } = await retrieval.embed(inputs, { ...call, language })
      reply.type('application/json; charset=utf-8')
      const head = { model: model.name, dim: model.dim, timings: reply.timed(timings) }
      return jsonOf(head, inputs, embeddings, format)
    },
  )
}

async function readEmbedBody(
  { inputs, language, encoding_format: format = 'float' }: EmbedBody,
  reader: InputReader,
): Promise<Embed> {
  reader.checkCount(inputs.length, 'inputs')
  return {
    inputs: await Promise.all(inputs.map((input, at) => reader.input(input, `inputs[${at}]`))),
    language,
    format,
  }
}

const FormValues = Type.Object({
  text: Type.Optional(Text),
  language: Type.Optional(Language),
  encoding_format: Type.Optional(EncodingFormat),
})
const validate = compileExact<Static<typeof FormValues>>(FormValues)

async function readEmbedForm(
  request: FastifyRequest,
  reader: InputReader,
  limits: InputLimits,
): Promise<Embed> {
  const shape = { fields: ['text', 'language', 'encoding_format'], files: ['image'] }
  const parts = await readForm(request, shape, limits)
  const values = parts.filter((part) => isFile(part) || part.name === 'text')
  reader.checkCount(values.length, 'The form')
  const inputs = values.map((part, at) => {
    if (isFile(part)) return { image: part.bytes }
    checked(validate, { text: part.value }, 'field')
    return { text: reader.text(part.value, `inputs[${at}]`) }
  })
  const named = onlyField(parts, 'language')
  const fields = {
    ...(named !== undefined && { language: named }),
    encoding_format: onlyField(parts, 'encoding_format') ?? 'float',
  }
  const { language, encoding_format: format = 'float' } = checked(validate, fields, 'field')
  return { inputs, language, format }
}

/** An `EmbedReply` as JSON. */
function jsonOf(
  head: Omit<EmbedReply, 'embeddings'>,
  inputs: readonly Input[],
  embeddings: readonly Float32Array[],
  format: EncodingFormat,
): string {
  const rows = embeddings.map((embedding, index) => {
    const type = 'text' in (inputs[index] as Input) ? 'text' : 'image'
    const text = format === 'float' ? jsonOfFloats(embedding) : `"${base64OfFloats(embedding)}"`
    return `{"index":${index},"type":"${type}","embedding":${text}}`
  })
  return `${JSON.stringify(head).slice(0, -1)},"embeddings":[${rows.join(',')}]}`
}
