/** POST /items: many images in one request, as a form or as lines of JSON. */
import type { Readable } from 'node:stream'
import { setImmediate } from 'node:timers/promises'
import multipart from '@fastify/multipart'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { clip, TandemError } from '../../errors.js'
import type { Addition, Retrieval } from '../../retrieval/retrieval.js'
import type { Json } from '../json/json-threads.js'
import { parsedJson } from '../plugins/bodies.js'
import { logFailure, problemOf, tandemError } from '../plugins/problems.js'
import { checked, compileExact } from '../plugins/validation.js'
import { bodyIn, Id, NoQuery } from '../schemas/fields.js'
import { AddReply, ItemLine, ItemsForm } from '../schemas/items.js'
import { fieldValues, isFile, readForm } from '../wire/form.js'
import { InputReader, type InputLimits, type InputOptions } from '../wire/inputs.js'
import { linesOf } from '../wire/lines.js'
import { jsonError, limitedPayload, payloadOf } from '../wire/payload.js'

type Outcome = AddReply['items'][number]

/** An addition that is not read yet. If reading fails, the others of the request continue. */
interface Pending {
  index: number
  /** Held in memory. */
  bytes: number
  /** @param onId - called with the id before `read` returns, unless the input has no readable id */
  read: (onId: (id: string) => void) => Addition | Promise<Addition>
}

/** Enough to fill batches of the model, few enough to bound the memory of a long stream. */
const GROUP_SIZE = 16
/** A group that has as many bytes is not filled up. */
const GROUP_BYTES = 2 ** 20
/** Then the event loop has a turn: reading a payload of many values takes some milliseconds. */
const MAX_TURN_MS = 4
/** Images that were stored, and images that failed, whose outcomes a reply has. */
const MAX_LISTED = 10_000
/** More than errors quote of a line. */
const MAX_QUOTE_BYTES = 256
const validateLine = compileExact<ItemLine>(ItemLine)
const validateId = compileExact<{ id: string }>(Type.Object({ id: Id }))

export const manyItemsRoutes: FastifyPluginAsyncTypebox<InputOptions> = async (app, options) => {
  const { retrieval, limits } = options
  await app.register(multipart)
  // A single JSON object goes to PUT /items/{id}.
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/x-ndjson', (_request, payload, done) => done(null, payload))

  app.post(
    '/items',
    {
      config: { timeLimit: false, priority: 'bulk' },
      schema: {
        tags: ['items'],
        operationId: 'addItems',
        summary: 'Add or replace many items',
        querystring: NoQuery,
        body: bodyIn<Readable | undefined>({
          'multipart/form-data': ItemsForm,
          'application/x-ndjson': ItemLine,
        }),
        response: { 200: AddReply },
      },
    },
    async (request) => {
      const { body, admission } = request
      const additions =
        body === undefined
          ? await readItemsForm(request, limits)
          : readLines(request, body, options)
      const counts = { created: 0, replaced: 0, failed: 0 }
      const listed = { stored: 0, failed: 0 }
      const items: Outcome[] = []
      for await (const group of groupsOf(additions)) {
        const work = (): Promise<Outcome[]> => addGroup(group, retrieval, request)
        // A stream has a permit while a group is added, and none while it waits for the client.
        for (const outcome of await (body === undefined ? work() : admission.inTurn(work))) {
          counts[outcome.status] += 1
          const kind = outcome.status === 'failed' ? 'failed' : 'stored'
          if (listed[kind] === MAX_LISTED) continue
          listed[kind] += 1
          items.push(outcome)
        }
        // Lines that are refused at once wait for nothing, and other requests would not get a turn.
        await setImmediate()
      }
      if (items.length === 0)
        throw new TandemError('body_missing', 'The body has no lines; expected one for each image.')
      const omitted = counts.created + counts.replaced + counts.failed - items.length
      return { ...counts, ...(omitted === 0 ? {} : { omitted }), items }
    },
  )
}

/** Adds the images of a group together, those of one id one after the other: the last one stays. */
async function addGroup(
  group: readonly Pending[],
  retrieval: Retrieval,
  request: FastifyRequest,
): Promise<Outcome[]> {
  const latest = new Map<string, Promise<Outcome>>()
  const outcomes: Promise<Outcome>[] = []
  let turn = performance.now()
  for (const { index, read } of group) {
    let id: string | null = null
    const addition = (async () => read((known) => (id = known)))()
    const earlier = id === null ? undefined : latest.get(id)
    const outcome = add({ index, id, addition, earlier }, retrieval, request)
    if (id !== null) latest.set(id, outcome)
    outcomes.push(outcome)
    if (performance.now() - turn < MAX_TURN_MS) continue
    await setImmediate()
    turn = performance.now()
  }
  return Promise.all(outcomes)
}

interface Adding {
  index: number
  id: string | null
  addition: Promise<Addition>
  /** The earlier addition of the same id, stored first. */
  earlier: Promise<unknown> | undefined
}

/** Adds one image. Does not throw: an error is the outcome of this image alone. */
async function add(
  { index, id, addition, earlier }: Adding,
  retrieval: Retrieval,
  request: FastifyRequest,
): Promise<Outcome> {
  try {
    const read = await addition
    await earlier
    const { status } = await retrieval.add(read, request.call)
    request.audit('add', read.id, status)
    return { index, id: read.id, status }
  } catch (thrown) {
    const error = tandemError(thrown, request)
    request.audit('add', id, error.code)
    if (error.status >= 500) logFailure(error, request)
    return { index, id, status: 'failed', error: problemOf(error, request.id) }
  }
}

async function* readLines(
  request: FastifyRequest,
  body: Readable,
  options: InputOptions,
): AsyncGenerator<Pending> {
  const { maxBodyBytes } = options.limits
  for await (const { index, bytes } of linesOf(body, maxBodyBytes, (held) =>
    request.admission.holds(held),
  )) {
    const size = bytes?.length ?? 0
    const line = await parsedLine(request, bytes, maxBodyBytes).catch((error: unknown) => ({
      error,
    }))
    const read: Pending['read'] = async (onId) => {
      if ('error' in line) throw line.error
      const { value, longStrings } = line
      const given = value as Partial<ItemLine> | null
      if (typeof given?.id === 'string') onId(given.id)
      const { id, image, payload: unlimited } = checked(validateLine, value, 'field')
      const payload = limitedPayload(unlimited, longStrings)
      const reader = new InputReader(options, { call: request.call, longStrings })
      return { id, image: await reader.image(image, 'image'), payload }
    }
    yield { index, bytes: size, read }
  }
}

/** @throws TandemError body_too_large, payload_invalid, text_unreadable */
async function parsedLine(
  request: FastifyRequest,
  bytes: Buffer | null,
  maxBodyBytes: number,
): Promise<Json> {
  if (bytes === null)
    throw new TandemError(
      'body_too_large',
      `The line is longer than ${maxBodyBytes} bytes, the most this service takes.`,
    )
  const start = bytes.subarray(0, MAX_QUOTE_BYTES).toString()
  try {
    return await parsedJson(request, bytes, 'The line')
  } catch (error) {
    throw jsonError(error, 'The line', start)
  }
}

/** The n-th id and payload belong to the n-th image; without ids, the file names are the ids. */
async function readItemsForm(request: FastifyRequest, limits: InputLimits): Promise<Pending[]> {
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
  return files.map(({ fileName, bytes: image }, index) => ({
    index,
    bytes: image.length,
    read: (onId) => {
      const id = ids[index] ?? idOfFileName(fileName)
      onId(id)
      checked(validateId, { id }, 'field')
      return { id, image, payload: payloadOf(payloads[index], 'payload') }
    },
  }))
}

/**
 * The path that a client gives for a file. Of a whole Windows path, which some send, the last name.
 *
 * @throws TandemError invalid_request for a path that addresses would not keep
 */
function idOfFileName(fileName: string): string {
  const path = /^[a-z]:\\/i.test(fileName) ? fileName.replace(/^.*\\/, '') : fileName
  const steps = path.split('/')
  if (steps.length === 1 || !steps.some((step) => ['', '.', '..'].includes(step))) return path
  throw new TandemError(
    'invalid_request',
    `The file name "${clip(path, 60)}" cannot be an id; expected a path without "", "." and ".." between slashes, or a field id.`,
  )
}

async function* groupsOf(
  additions: AsyncIterable<Pending> | Iterable<Pending>,
): AsyncGenerator<Pending[]> {
  let group: Pending[] = []
  let bytes = 0
  for await (const addition of additions) {
    bytes += addition.bytes
    if (group.push(addition) < GROUP_SIZE && bytes < GROUP_BYTES) continue
    yield group
    group = []
    bytes = 0
  }
  if (group.length > 0) yield group
}
