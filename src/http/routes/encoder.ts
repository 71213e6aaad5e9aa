/**
 * GET /encoder and POST /encoder/texts, /images, /match: the models, for services that search
 * (TANDEM_ROLE=search).
 */
import type { FastifyPluginCallback, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import {
  answerImages,
  answerMatch,
  answerTexts,
  callIn,
  fingerprintIn,
  imagesAsked,
  matchAsked,
  textsAsked,
  type Encoder,
} from '../../model/remote/protocol.js'
import { TandemError, type ErrorCode } from '../../errors.js'
import { FRAME_TYPE, FrameError, readFrame, type Frame } from '../../model/remote/frames.js'
import { inputErrors } from '../plugins/documented-errors.js'
import { readByRoute } from '../plugins/validation.js'
import type { Readiness } from '../readiness.js'
import { NoQuery } from '../schemas/requests.js'
import type { Call } from '../../retrieval/retrieval.js'
import { EncoderReply } from '../schemas/fields.js'

export interface EncoderOptions {
  encoder: Encoder
  readiness: Readiness
  maxBodyBytes: number
}

/**
 * An image that another service took may be as large as a body; what the frame adds must not refuse
 * it here.
 */
const HEAD_BYTES = 2 ** 20

const frame = Type.String({ format: 'binary', description: 'a frame: docs/http-api.md' })
const frames = { [FRAME_TYPE]: { schema: { ...frame, ...readByRoute } } }

export const encoderRoutes: FastifyPluginCallback<EncoderOptions> = (
  app,
  { encoder, readiness, maxBodyBytes },
  done,
) => {
  app.addContentTypeParser(FRAME_TYPE, { parseAs: 'buffer' }, (_request, body, parsed) =>
    parsed(null, body),
  )
  const schema = { tags: ['encoder'], querystring: NoQuery }

  app.get(
    '/encoder',
    {
      config: { permit: false, errors: ['not_ready'] },
      schema: { ...schema, summary: 'The bundle that encodes', response: { 200: EncoderReply } },
    },
    () => {
      if (readiness.state !== 'ready')
        throw new TandemError('not_ready', `The service is ${readiness.state}.`, { retryAfterS: 1 })
      return replyOf(encoder)
    },
  )

  /** @param answer - reads what a frame asks, and writes the frame that answers it */
  function answers(
    path: string,
    summary: string,
    errors: readonly ErrorCode[],
    answer: (frame: Frame, call: Call) => Promise<Buffer>,
  ): void {
    const response = {
      200: { description: 'A frame', content: { [FRAME_TYPE]: { schema: frame } } },
    }
    app.post(
      path,
      {
        bodyLimit: maxBodyBytes + HEAD_BYTES,
        config: { scope: 'read', errors: ['bundle_mismatch', ...errors] },
        schema: { ...schema, summary, body: { content: frames }, response },
      },
      async (request, reply) => {
        const asked = await asFrame(async () => {
          const found = readFrame(bodyOf(request))
          refuseOther(fingerprintIn(found), encoder)
          return answer(found, { ...request.call, ...callIn(found) })
        })
        return reply.type(FRAME_TYPE).send(asked)
      },
    )
  }

  answers('/encoder/texts', 'Encode texts', ['model_unavailable'], async (found, call) => {
    const { encoded, timings } = await encoder.encodeTexts(textsAsked(found), call)
    return answerTexts(encoded, timings, encoder.info)
  })
  answers('/encoder/images', 'Encode images', inputErrors, async (found, call) => {
    const { encoded, timings } = await encoder.encodeImages(imagesAsked(found), call)
    return answerImages(encoded, timings, encoder.info)
  })
  answers(
    '/encoder/match',
    'Match texts and images',
    ['model_unavailable'],
    async (found, call) => {
      const { texts, imageTokens, pairs } = matchAsked(found, encoder.info)
      const { matches, timings } = await encoder.match(texts, imageTokens, pairs, call)
      return answerMatch(matches, timings, encoder.info)
    },
  )
  done()
}

function bodyOf({ body, headers }: FastifyRequest): Buffer {
  if (Buffer.isBuffer(body)) return body
  throw new TandemError(
    'media_type_unsupported',
    `The Content-Type is ${JSON.stringify(headers['content-type'])}; expected ${FRAME_TYPE}.`,
  )
}

async function asFrame<Value>(work: () => Promise<Value>): Promise<Value> {
  try {
    return await work()
  } catch (error) {
    throw error instanceof FrameError
      ? new TandemError('body_unreadable', `The body ${error.message}.`)
      : error
  }
}

/** Before anything is spent on it. @throws TandemError bundle_mismatch */
function refuseOther(fingerprint: string, { info }: Encoder): void {
  if (fingerprint === info.fingerprint) return
  throw new TandemError(
    'bundle_mismatch',
    `This service encodes by the bundle ${info.fingerprint}; the call is about ${fingerprint}.`,
  )
}

function replyOf({ info }: Encoder) {
  const {
    name,
    version,
    description,
    license,
    languages,
    fingerprint,
    dim,
    imageTokens,
    tokenWidth,
    maxTokens,
    rerank,
  } = info
  return {
    ...{ name, version, description, license, languages: [...languages], fingerprint, dim },
    ...{ image_tokens: imageTokens, token_width: tokenWidth, max_tokens: maxTokens, rerank },
  }
}
