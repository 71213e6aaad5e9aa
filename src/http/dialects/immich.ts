/** The CLIP tasks of Immich's machine-learning container. */
import multipart from '@fastify/multipart'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type, type Static } from 'typebox'
import { clip as shortened, TandemError } from '../../errors.js'
import { claimedSize } from '../../model/image/file-header.js'
import type { Input } from '../../retrieval/retrieval.js'
import { inputErrors } from '../plugins/documented-errors.js'
import { checked, compileExact } from '../plugins/validation.js'
import { bodyIn, ImageFile, Text, words } from '../schemas/fields.js'
import { jsonOfFloats } from '../wire/embedding-text.js'
import { onlyField, onlyFile, readForm, type FormField, type FormPart } from '../wire/form.js'
import { InputReader } from '../wire/inputs.js'
import { parseJson } from '../wire/payload.js'
import { readUrlencoded, URLENCODED } from '../wire/urlencoded.js'
import { isObject } from './bodies.js'
import type { Dialect, DialectOptions, DialectRoutes } from './dialects.js'
import { errorAndMessage } from './error-members.js'

const Task = Type.Object(
  { modelName: Type.String({ description: 'the name of the bundle that serves' }) },
  { description: 'an object with modelName' },
)
const Entries = Type.Object(
  {
    clip: Type.Object(
      { visual: Type.Optional(Task), textual: Type.Optional(Task) },
      {
        minProperties: 1,
        maxProperties: 1,
        additionalProperties: false,
        description:
          '{"visual": {"modelName"}} for an image or {"textual": {"modelName"}} for a text',
      },
    ),
  },
  {
    additionalProperties: false,
    description:
      'an object with clip, the only task of this service (no faces, no texts in images)',
  },
)
type Entries = Static<typeof Entries>
const validateEntries = compileExact<Entries>(Entries)
const validateText = compileExact<{ text: string }>(Type.Object({ text: Text }))

const PredictForm = Type.Object(
  {
    entries: Type.String({ description: 'the tasks as JSON: {"clip": {"visual": {"modelName"}}}' }),
    image: Type.Optional(ImageFile),
    text: Type.Optional(Text),
  },
  { title: 'PredictForm' },
)

const PredictReply = Type.Object(
  {
    clip: Type.String({ description: 'The embedding as JSON' }),
    imageHeight: Type.Optional(Type.Integer()),
    imageWidth: Type.Optional(Type.Integer()),
  },
  { title: 'PredictReply', description: 'The embedding of the image or the text' },
)

const Pong = {
  description: 'pong',
  content: { 'text/plain': { schema: words('pong') } },
}
const MAX_SHOWN = 100
const GREETING = { message: 'Immich ML' }

const routes: DialectRoutes = (app, options) => {
  const tags = ['clients']
  const open = { open: true, rateLimit: false } as const

  app.get(
    '/ping',
    {
      config: open,
      schema: {
        tags,
        summary: 'Whether the service lives, for Immich',
        response: { 200: Pong },
      },
    },
    async (_request, reply) => reply.type('text/plain; charset=utf-8').send('pong'),
  )

  if (!options.hasItems) app.get('/', { config: open, schema: { hide: true } }, () => GREETING)

  // The parsers of forms are for this route alone, and it has no others.
  app.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers()
    scope.register(multipart)
    scope.addContentTypeParser(URLENCODED, readUrlencoded)
    scope.post(
      '/predict',
      {
        config: { scope: 'read', errors: inputErrors },
        schema: {
          tags,
          summary: 'Embed a text or an image, as Immich does',
          body: bodyIn<FormField[] | undefined>({
            'multipart/form-data': PredictForm,
            [URLENCODED]: PredictForm,
          }),
          response: { 200: PredictReply },
        },
      },
      (request, reply) => predict(request, reply, options),
    )
    done()
  })
}

async function predict(
  request: FastifyRequest,
  reply: FastifyReply,
  options: DialectOptions,
): Promise<Static<typeof PredictReply>> {
  const { retrieval, limits } = options
  const shape = { fields: ['entries', 'text'], files: ['image'], ignoresOthers: true }
  // A multipart form is read here.
  const parts =
    (request.body as FormField[] | undefined) ?? (await readForm(request, shape, limits))
  const { task, modelName } = taskIn(parts)
  if (modelName !== retrieval.model.name) throw notServed(modelName, retrieval.model.name)
  const input = inputOf(task, parts, new InputReader(options, request))
  const nameOf = (): string => ''
  const { embeddings, timings } = await retrieval.embed([input], request.call, nameOf)
  reply.timed(timings)
  const [embedding = new Float32Array()] = embeddings
  const size = 'image' in input ? claimedSize(input.image) : undefined
  return {
    clip: jsonOfFloats(embedding),
    ...(size && { imageHeight: size.height, imageWidth: size.width }),
  }
}

/** @throws TandemError invalid_request */
function taskIn(parts: readonly FormPart[]): { task: 'visual' | 'textual'; modelName: string } {
  const text = onlyField(parts, 'entries')
  if (text === undefined)
    throw new TandemError('invalid_request', 'entries is missing; expected the tasks as JSON.')
  const entries = parseJson(text, 'entries', 'invalid_request')
  const other = isObject(entries) ? Object.keys(entries).find((name) => name !== 'clip') : undefined
  if (other !== undefined)
    throw new TandemError(
      'invalid_request',
      `entries has the task "${shortened(other, MAX_SHOWN)}"; expected clip alone: this service has no model for faces or for text in images.`,
    )
  const { clip } = checked(validateEntries, entries, 'field')
  const task = clip.visual === undefined ? 'textual' : 'visual'
  return { task, modelName: clip[task]?.modelName ?? '' }
}

function notServed(named: string, serving: string): TandemError {
  return new TandemError(
    'invalid_request',
    `modelName is "${shortened(named, MAX_SHOWN)}"; expected "${serving}", the only model of this service.`,
  )
}

function inputOf(
  task: 'visual' | 'textual',
  parts: readonly FormPart[],
  reader: InputReader,
): Input {
  if (task === 'visual') return { image: onlyFile(parts) }
  const text = onlyField(parts, 'text') ?? ''
  checked(validateText, { text }, 'field')
  return { text: reader.text(text, 'text') }
}

/** Immich reads the status of a failure; its log has the rest. */
export const dialect: Dialect = {
  routes,
  shared: [
    {
      path: '/',
      // The search page is for all that do not ask for JSON.
      recognises: ({ headers: { accept = '' } }) =>
        accept.includes('application/json') && !accept.includes('text/html'),
      answer(_request, reply) {
        reply.header('cache-control', 'no-store')
        return Promise.resolve(GREETING)
      },
    },
  ],
  errorMembers: errorAndMessage,
}
