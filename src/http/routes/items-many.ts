/**
 * POST /items: many images in one request, as a form or as lines of JSON. Each has its own outcome.
 */
import type { Readable } from 'node:stream'
import multipart from '@fastify/multipart'
import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import { TandemError } from '../../errors.js'
import { problemOf, tandemError } from '../plugins/problems.js'
import { checked, compileExact, readByRoute } from '../plugins/validation.js'
import type { Addition, Retrieval } from '../../retrieval/retrieval.js'
import { ItemLine, NoQuery } from '../schemas/requests.js'
import { AddReply } from '../schemas/fields.js'
import { fieldValues, isFile, isForm, readForm } from '../wire/form.js'
import type { InputLimits, InputOptions } from '../wire/inputs.js'
import { linesOf, type Line } from '../wire/lines.js'
import { limitedPayload, parsedJson, payloadOf } from '../wire/payload.js'
import { Images } from '../wire/image-source.js'
import { itemsForm, validItemId } from '../wire/options.js'

type Outcome = Static<typeof AddReply>['items'][number]

/** An addition still to be read: reading it may fail, which is the outcome of that one alone. */
interface Pending {
  index: number
  /** @param named - told the id as soon as it is known, so that a failure can say whose it is */
  read: (named: (id: string) => void) => Addition | Promise<Addition>
}

// Enough to fill the model's batches, few enough that a long stream never piles up in memory.
const AT_A_TIME = 16
const validLine = compileExact<ItemLine>(ItemLine)

export const manyItemsRoutes: FastifyPluginAsync<InputOptions> = async (app, options) => {
  const { retrieval, limits } = options
  await app.register(multipart)
  // One object is no line of a stream; PUT /items/{id} takes it.
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/x-ndjson', (_request, payload, done) => done(null, payload))

  const body = {
    content: {
      'multipart/form-data': { schema: { ...itemsForm, ...readByRoute } },
      'application/x-ndjson': { schema: { ...ItemLine, ...readByRoute } },
    },
  }
  const schema = {
    tags: ['items'],
    summary: 'Add or replace many items',
    querystring: NoQuery,
    body,
    response: { 200: AddReply },
  }
  app.post(
    '/items',
    { config: { timeLimit: false, priority: 'bulk' }, schema },
    async (request) => {
      const pending = isForm(request)
        ? await fromForm(request, limits)
        : fromLines(
            linesOf(request.body as Readable, limits.maxBodyBytes),
            options,
            request.call?.signal,
          )
      const items: Outcome[] = []
      for await (const group of groupsOf(pending, AT_A_TIME)) {
        items.push(...(await Promise.all(group.map((one) => outcomeOf(one, retrieval, request)))))
      }
      const count = (status: Outcome['status']) =>
        items.filter((item) => item.status === status).length
      return {
        created: count('created'),
        replaced: count('replaced'),
        failed: count('failed'),
        items,
      }
    },
  )
}

async function outcomeOf(
  { index, read }: Pending,
  retrieval: Retrieval,
  request: FastifyRequest,
): Promise<Outcome> {
  let id: string | null = null
  try {
    const addition = await read((known) => (id = known))
    const { status } = await retrieval.add(addition, request.call)
    request.audit('add', addition.id, status)
    return { index, id: addition.id, status }
  } catch (error) {
    const known = tandemError(error, request)
    request.audit('add', id, known.code)
    if (known.status >= 500) request.log.error({ err: known, index }, known.message)
    return { index, id, status: 'failed', error: problemOf(known, request.id) }
  }
}

async function* fromLines(
  lines: AsyncIterable<Line>,
  { limits, fetchImage }: InputOptions,
  signal: AbortSignal | undefined,
): AsyncGenerator<Pending> {
  for await (const { index, text } of lines) {
    const read: Pending['read'] = async (named) => {
      if (text === null)
        throw new TandemError(
          'body_too_large',
          `The line is longer than ${limits.maxBodyBytes} bytes, the most this service takes.`,
        )
      const value = parsedJson(text, 'The line')
      const given = (value as Partial<ItemLine> | null)?.id
      if (typeof given === 'string') named(given)
      const { id, image, payload } = checked(validLine, value, 'field')
      const stored = limitedPayload(payload)
      return {
        id,
        image: await new Images(fetchImage, limits, signal).read(image, 'image'),
        payload: stored,
      }
    }
    yield { index, read }
  }
}

/**
 * Ids are the fields named id, or the names of the files; payloads, where there are any, come one
 * for each image.
 */
async function fromForm(request: FastifyRequest, limits: InputLimits): Promise<Pending[]> {
  const parts = await readForm(request, { fields: ['id', 'payload'], files: ['image'] }, limits)
  const files = parts.filter(isFile)
  const [ids, payloads] = [fieldValues(parts, 'id'), fieldValues(parts, 'payload')]
  for (const [name, values] of Object.entries({ id: ids, payload: payloads })) {
    if (values.length === 0 || values.length === files.length) continue
    throw new TandemError(
      'invalid_request',
      `The form has ${files.length} files named image and ${values.length} fields named ${name}; expected as many, or none.`,
    )
  }
  return files.map(({ fileName, bytes }, index) => ({
    index,
    read: (named) => {
      const id = ids[index] ?? fileName
      named(id)
      return { id: validItemId(id), image: bytes, payload: payloadOf(payloads[index], 'payload') }
    },
  }))
}

async function* groupsOf<One>(
  all: AsyncIterable<One> | Iterable<One>,
  size: number,
): AsyncGenerator<One[]> {
  let group: One[] = []
  for await (const one of all) {
    if (group.push(one) < size) continue
    yield group
    group = []
  }
  if (group.length > 0) yield group
}
