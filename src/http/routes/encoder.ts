/**
 * GET /encoder and POST /encoder/texts, /images, /match: the models, for services that search
 * (TANDEM_ROLE=search).
 */
import type { FastifyPluginCallbackTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { TandemError, type ErrorCode } from '../../errors.js'
import { FRAME_TYPE, FrameError, readFrameWith, type Frame } from '../../model/remote/frames.js'
import {
  answerImages,
  answerMatch,
  answerTexts,
  callIn,
  EncoderReply,
  fingerprintIn,
  imagesAsked,
  matchAsked,
  textsAsked,
  type Encoder,
} from '../../model/remote/protocol.js'
import type { Call } from '../../retrieval/retrieval.js'
import type { LongStrings } from '../json/long-strings.js'
import { parsedJson, readBytes } from '../plugins/bodies.js'
import { inputErrors } from '../plugins/documented-errors.js'
import type { Readiness } from '../plugins/overload.js'
import { bodyIn, NoQuery } from '../schemas/fields.js'
import { limitedText, type InputLimits } from '../wire/inputs.js'

export interface EncoderOptions {
  encoder: Encoder
  readiness: Readiness
  limits: Pick<InputLimits, 'maxBodyBytes' | 'maxTextChars'>
}

/** An image that the other service accepted may fill a body; the head of the frame comes on top. */
const HEAD_BYTES = 2 ** 20

const FrameBytes = Type.Unsafe<Buffer>({
  type: 'string',
  format: 'binary',
  description: 'a frame: docs/http-api.md',
})

export const encoderRoutes: FastifyPluginCallbackTypebox<EncoderOptions> = (
  app,
  { encoder, readiness, limits: { maxBodyBytes, maxTextChars } },
  done,
) => {
  const { info } = encoder
  app.addContentTypeParser(FRAME_TYPE, readBytes)

  app.get(
    '/encoder',
    {
      config: { permit: false, errors: ['not_ready'] },
      schema: {
        tags: ['encoder'],
        operationId: 'getEncoder',
        summary: 'The bundle that encodes',
        querystring: NoQuery,
        response: { 200: EncoderReply },
      },
    },
    () => {
      if (readiness.state !== 'ready')
        throw new TandemError('not_ready', `The service is ${readiness.state}.`, { retryAfterS: 1 })
      return replyOf(encoder)
    },
  )

  /** @param answer - returns the frame that answers a frame */
  function addCall(
    path: string,
    summary: string,
    errors: readonly ErrorCode[],
    answer: (frame: Frame, call: Call, longStrings?: LongStrings) => Promise<Buffer>,
  ): void {
    app.post(
      path,
      {
        bodyLimit: maxBodyBytes + HEAD_BYTES,
        config: { scope: 'read', beginsItself: true, errors: ['bundle_mismatch', ...errors] },
        schema: {
          tags: ['encoder'],
          summary,
          querystring: NoQuery,
          body: bodyIn<unknown>({ [FRAME_TYPE]: FrameBytes }),
          response: {
            200: { description: 'A frame', content: { [FRAME_TYPE]: { schema: FrameBytes } } },
          },
        },
      },
      async (request, reply) => {
        const { body, headers, call } = request
        if (!Buffer.isBuffer(body)) throw unsupported(headers['content-type'])
        return reply.type(FRAME_TYPE).send(
          await readingFrame(async () => {
            const frame = await readFrameWith(body, async (head) => {
              // A copy, since a thread takes a large one.
              const { value, longStrings } = await parsedJson(
                request,
                Buffer.from(head),
                'The head',
              )
              request.longStrings = longStrings
              return value
            })
            checkFingerprint(fingerprintIn(frame), encoder)
            const own = { ...call, ...callIn(frame, call?.client) }
            // The clients of a service have shares of their own, as they have at that service.
            request.admission.begin(own.client)
            return answer(frame, own, request.longStrings)
          }),
        )
      },
    )
  }

  addCall(
    '/encoder/texts',
    'Encode texts',
    ['text_too_long', 'model_unavailable'],
    async (frame, call, longStrings) => {
      const texts = textsAsked(frame).map((text, at) =>
        limitedText(text, `texts[${at}]`, maxTextChars, longStrings),
      )
      const { encoded, timings } = await encoder.encodeTexts(texts, call)
      return answerTexts(encoded, timings, info)
    },
  )
  addCall('/encoder/images', 'Encode images', inputErrors, async (frame, call) => {
    const { encoded, timings } = await encoder.encodeImages(imagesAsked(frame), call)
    return answerImages(encoded, timings, info)
  })
  addCall(
    '/encoder/match',
    'Match texts and images',
    ['model_unavailable'],
    async (frame, call) => {
      const { texts, imageTokens, pairs } = matchAsked(frame, info)
      const { matches, timings } = await encoder.match(texts, imageTokens, pairs, call)
      return answerMatch(matches, timings, info)
    },
  )
  done()
}

function unsupported(type: string | undefined): TandemError {
  return new TandemError(
    'media_type_unsupported',
    `The Content-Type is ${JSON.stringify(type)}; expected ${FRAME_TYPE}.`,
  )
}

async function readingFrame<Value>(work: () => Promise<Value>): Promise<Value> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof FrameError)) throw error
    throw new TandemError('body_unreadable', `The body ${error.message}.`)
  }
}

/** @throws TandemError bundle_mismatch */
function checkFingerprint(fingerprint: string, { info }: Encoder): void {
  if (fingerprint === info.fingerprint) return
  throw new TandemError('bundle_mismatch', { serving: info.fingerprint, named: fingerprint })
}

function replyOf({ info }: Encoder): EncoderReply {
  const { name, version, description, license, languages, fingerprint, dim } = info
  const { margin, ...rerank } = info.rerank
  return {
    ...{ name, version, description, license, languages: [...languages], fingerprint, dim },
    ...(info.commercialUse !== undefined && { commercial_use: info.commercialUse }),
    calibrated: info.calibrated,
    text_encoders: info.textEncoders.map((encoder) => ({ languages: [...encoder.languages] })),
    image_tokens: info.imageTokens,
    token_width: info.tokenWidth,
    max_tokens: info.maxTokens,
    rerank: margin === undefined ? rerank : { ...rerank, margin },
  }
}
