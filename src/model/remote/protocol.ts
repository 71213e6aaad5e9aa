/**
 * The calls of `Models` between a service that searches and one that encodes, as frames. Every
 * message names the fingerprint of its bundle, so that embeddings of two bundles are never mixed.
 */
import { createHash } from 'node:crypto'
import { Type, type Static } from 'typebox'
import {
  counts,
  doubles,
  floats,
  FrameError,
  int8s,
  rowNumbers,
  writeFrame,
  type Frame,
} from './frames.js'
import type {
  Call,
  EncodedImage,
  EncodedText,
  Match,
  ModelInfo,
  Models,
  StageTimings,
} from '../models.js'
import { LANGUAGE_TAG } from '../../language/language-check.js'
import type { Comparison } from '../encoders/comparison.js'

/** The part of the models that another service calls. */
export type Encoder = Pick<Models, 'info' | 'encodeTexts' | 'encodeImages' | 'match'>

const integer = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum })

/** `GET /encoder`. */
export const EncoderReply = Type.Object(
  {
    name: Type.String(),
    version: Type.String(),
    description: Type.String(),
    license: Type.String(),
    commercial_use: Type.Optional(Type.Boolean()),
    calibrated: Type.Optional(Type.Boolean()),
    languages: Type.Array(Type.String()),
    text_encoders: Type.Array(Type.Object({ languages: Type.Array(Type.String()) }), {
      minItems: 1,
      description: 'The languages of each',
    }),
    fingerprint: Type.String({
      pattern: '^[0-9a-f]{16}$',
      description: 'The same for bundles whose embeddings and tokens can be mixed',
    }),
    dim: integer(1, 65_536),
    image_tokens: Type.Object({ count: integer(0, 65_536), width: integer(0, 65_536) }),
    token_width: integer(0, 65_536),
    max_tokens: integer(1, 65_536),
    rerank: Type.Object({
      default: Type.Boolean(),
      candidates: integer(1, 1000),
      margin: Type.Optional(
        Type.Number({
          minimum: 0,
          maximum: 2,
          description: 'Candidates further below the k-th similarity are not reranked',
        }),
      ),
    }),
  },
  { description: 'The bundle that encodes' },
)
export type EncoderReply = Static<typeof EncoderReply>

/** Sizes of a bundle that bound its messages. */
export type Sizes = Pick<
  ModelInfo,
  'fingerprint' | 'dim' | 'imageTokens' | 'tokenWidth' | 'maxTokens' | 'textEncoders'
>

const HEX = /^[0-9a-f]{16}$/
const LANGUAGE = new RegExp(LANGUAGE_TAG)
/** Inputs of one message; the limit on its bytes is tighter. */
const MAX_INPUTS = 100_000
/** Limit for a stored image: ten times a JPEG of 512 pixels on its long side. */
const MAX_IMAGE_BYTES = 2 ** 21
/** Limits for the head: in all, and for each input. */
const HEAD_BYTES = 4096
const HEAD_BYTES_EACH = 128

function ask(
  { fingerprint }: Sizes,
  { priority = 'interactive', pairsAhead = 0, client, language }: Call,
): Record<string, unknown> {
  const named = client === undefined ? {} : { client: digestOf(client) }
  return { fingerprint, priority, pairs_ahead: pairsAhead, language, ...named }
}

/** Tells clients apart without their names and addresses. */
function digestOf(client: string): string {
  return createHash('sha256').update(client).digest('hex').slice(0, 16)
}

/** The fingerprint in a message. @throws FrameError */
export function fingerprintIn({ head }: Frame): string {
  const { fingerprint } = head
  if (typeof fingerprint === 'string' && HEX.test(fingerprint)) return fingerprint
  throw new FrameError('has no fingerprint of 16 hexadecimal digits')
}

/**
 * The options of a call that are not in its HTTP headers.
 *
 * @param sender - the client that the service which calls is; its own clients take turns too
 * @throws FrameError
 */
export function callIn(
  { head }: Frame,
  sender: string | undefined,
): Pick<Call, 'priority' | 'pairsAhead' | 'client' | 'language'> {
  const { priority, pairs_ahead: pairsAhead, client, language } = head
  if (priority !== 'interactive' && priority !== 'bulk')
    throw new FrameError('has no priority that is interactive or bulk')
  const [ahead] = counts({ pairsAhead: [pairsAhead] }, 'pairsAhead', 1, MAX_INPUTS)
  if (language !== undefined && !(typeof language === 'string' && LANGUAGE.test(language)))
    throw new FrameError('has a language that is not a BCP 47 tag')
  const call = { priority, pairsAhead: ahead, language } as const
  if (client === undefined) return { ...call, client: sender }
  if (typeof client !== 'string' || !HEX.test(client))
    throw new FrameError('has a client that is not 16 hexadecimal digits')
  return { ...call, client: `${sender ?? ''} for ${client}` }
}

/** The request to encode texts. */
export function askTexts(texts: readonly string[], sizes: Sizes, call: Call): Buffer {
  return writeFrame({ ...ask(sizes, call), texts })
}

/** @throws FrameError */
export function textsAsked({ head }: Frame): string[] {
  const { texts } = head
  if (
    Array.isArray(texts) &&
    texts.length > 0 &&
    texts.length <= MAX_INPUTS &&
    texts.every((text) => typeof text === 'string')
  )
    return texts
  throw new FrameError(`has no list of 1 to ${MAX_INPUTS} texts`)
}

/** The reply with encoded texts. */
export function answerTexts(
  encoded: readonly EncodedText[],
  timings: StageTimings,
  { fingerprint }: Sizes,
): Buffer {
  return writeFrame({ fingerprint, timings, ...textCounts(encoded) }, [
    joined(encoded.map(({ embedding }) => embedding)),
    joined(encoded.map(({ textTokens }) => textTokens)),
  ])
}

/** @throws FrameError for anything but a reply for `count` texts */
export function textsAnswered(
  frame: Frame,
  count: number,
  sizes: Sizes,
): { encoded: EncodedText[]; timings: StageTimings } {
  const { dim, maxTokens, textEncoders } = sizes
  const tokenCounts = countsOf(frame, 'token_counts', count, maxTokens)
  const encoders = countsOf(frame, 'text_encoders', count, textEncoders.length - 1)
  const embeddings = floats(frame.parts[0], 'embeddings', count * dim)
  const tokens = tokenRows(frame.parts[1], tokenCounts, encoders, sizes)
  const encoded = tokenCounts.map((tokenCount, row) => ({
    embedding: embeddings.slice(row * dim, (row + 1) * dim),
    textTokens: tokens[row] as Float32Array,
    tokenCount,
    encoder: encoders[row] as number,
  }))
  return { encoded, timings: timingsIn(frame) }
}

/** The request to encode images. */
export function askImages(images: readonly Uint8Array[], sizes: Sizes, call: Call): Buffer {
  return writeFrame(ask(sizes, call), images)
}

/** @throws FrameError */
export function imagesAsked({ parts }: Frame): readonly Uint8Array[] {
  if (parts.length > 0) return parts
  throw new FrameError('has no image')
}

/** The reply with encoded images. */
export function answerImages(
  encoded: readonly EncodedImage[],
  timings: StageTimings,
  { fingerprint }: Sizes,
): Buffer {
  const images = encoded.map(({ image }) => image)
  const sides = (side: 'width' | 'height'): number[] => images.map((image) => image[side])
  return writeFrame({ fingerprint, timings, widths: sides('width'), heights: sides('height') }, [
    joined(encoded.map(({ embedding }) => embedding)),
    joinedBytes(encoded.map(({ imageTokens }) => imageTokens)),
    ...images.map(({ bytes }) => bytes),
  ])
}

/** @throws FrameError for anything but a reply for `count` images */
export function imagesAnswered(
  frame: Frame,
  count: number,
  sizes: Sizes,
): { encoded: EncodedImage[]; timings: StageTimings } {
  const {
    dim,
    imageTokens: { count: tokens, width },
  } = sizes
  const [embeddingBytes, tokenBytes, ...images] = frame.parts
  const embeddings = floats(embeddingBytes, 'embeddings', count * dim)
  const length = tokens * width
  const imageTokens = int8s(tokenBytes, 'image tokens', count * length)
  const widths = countsOf(frame, 'widths', count, 512)
  const heights = countsOf(frame, 'heights', count, 512)
  if (images.length !== count)
    throw new FrameError(`has ${images.length} images; expected ${count}`)
  const encoded = images.map((bytes, row): EncodedImage => ({
    embedding: embeddings.slice(row * dim, (row + 1) * dim),
    imageTokens: imageTokens.slice(row * length, (row + 1) * length),
    // A copy, so that it does not keep the whole frame in memory.
    image: {
      bytes: new Uint8Array(bytes),
      mime: 'image/jpeg',
      width: widths[row] ?? 0,
      height: heights[row] ?? 0,
    },
  }))
  return { encoded, timings: timingsIn(frame) }
}

/** The request to match pairs. */
export function askMatch(
  { texts, imageTokens, pairs }: Comparison,
  sizes: Sizes,
  call: Call,
): Buffer {
  const head = {
    ...ask(sizes, call),
    ...textCounts(texts),
    images: [imageTokens.length],
  }
  return writeFrame(head, [
    joined(texts.map(({ textTokens }) => textTokens)),
    joinedBytes(imageTokens),
    Uint32Array.from(pairs, ({ text }) => text),
    Uint32Array.from(pairs, ({ image }) => image),
    Float64Array.from(pairs, ({ similarity }) => similarity),
  ])
}

/** The texts have no embeddings, which a match does not use. @throws FrameError */
export function matchAsked(frame: Frame, sizes: Sizes): Comparison {
  const {
    maxTokens,
    textEncoders,
    imageTokens: { count, width },
  } = sizes
  const [textTokens, tokens, textRows, imageRows, cosines] = frame.parts
  const tokenCounts = counts(frame.head, 'token_counts', MAX_INPUTS, maxTokens)
  const encoders = countsOf(frame, 'text_encoders', tokenCounts.length, textEncoders.length - 1)
  const [images = 0] = counts(frame.head, 'images', 1, MAX_INPUTS)
  const most = Math.trunc((textRows?.length ?? 0) / 4)
  const asked = tokenRows(textTokens, tokenCounts, encoders, sizes)
  const bytes = int8s(tokens, 'image tokens', images * count * width)
  const text = rowNumbers(textRows, 'texts of pairs', most, tokenCounts.length)
  const image = rowNumbers(imageRows, 'images of pairs', most, images)
  const similarities = doubles(cosines, 'similarities', most)
  return {
    texts: tokenCounts.map((tokenCount, row) => ({
      embedding: new Float32Array(),
      textTokens: asked[row] as Float32Array,
      tokenCount,
      encoder: encoders[row] as number,
    })),
    imageTokens: Array.from({ length: images }, (_, row) =>
      bytes.subarray(row * count * width, (row + 1) * count * width),
    ),
    pairs: Array.from(similarities, (similarity, at) => ({
      text: text[at] ?? 0,
      image: image[at] ?? 0,
      similarity,
    })),
  }
}

/** The reply with the matches of pairs. */
export function answerMatch(
  matches: readonly Match[],
  timings: StageTimings,
  { fingerprint }: Sizes,
): Buffer {
  const logits = Float64Array.from(matches, ({ logit }) => logit)
  return writeFrame({ fingerprint, timings }, [
    logits,
    Float64Array.from(matches, ({ match }) => match),
  ])
}

/** @throws FrameError for anything but a reply for `count` pairs */
export function matchAnswered(
  frame: Frame,
  count: number,
): { matches: Match[]; timings: StageTimings } {
  const logits = doubles(frame.parts[0], 'logits', count)
  const probabilities = doubles(frame.parts[1], 'matches', count)
  if (!probabilities.every((match) => match >= 0 && match <= 1))
    throw new FrameError('has a match outside of 0 to 1')
  const matches = Array.from(logits, (logit, at) => ({ logit, match: probabilities[at] ?? 0 }))
  return { matches, timings: timingsIn(frame) }
}

/** The maximum size of a reply for `count` inputs. */
export function maxReplyBytes(
  kind: 'texts' | 'images' | 'match',
  count: number,
  sizes: Sizes,
): number {
  const { dim, tokenWidth, maxTokens, imageTokens } = sizes
  const each = {
    texts: 4 * (dim + maxTokens * tokenWidth),
    images: 4 * dim + imageTokens.count * imageTokens.width + MAX_IMAGE_BYTES,
    match: 16,
  }
  return HEAD_BYTES + count * (each[kind] + HEAD_BYTES_EACH)
}

function timingsIn({ head: { timings } }: Frame): StageTimings {
  const entries = typeof timings === 'object' && timings !== null ? Object.entries(timings) : []
  const stages: (keyof StageTimings)[] = ['preprocess', 'tokenize', 'queue', 'inference']
  return Object.fromEntries(
    entries.filter(([stage, ms]) => (stages as string[]).includes(stage) && Number.isFinite(ms)),
  )
}

function countsOf({ head }: Frame, name: string, count: number, largest: number): number[] {
  const found = counts(head, name, count, largest)
  if (found.length === count) return found
  throw new FrameError(`has ${found.length} ${name}; expected ${count}`)
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

/** Of each text: its number of tokens, and the position of the encoder that read it. */
function textCounts(texts: readonly EncodedText[]): Record<string, number[]> {
  return {
    token_counts: texts.map(({ tokenCount }) => tokenCount),
    text_encoders: texts.map(({ encoder }) => encoder),
  }
}

/**
 * The tokens of each text; only the first encoder gives some.
 * @throws FrameError for another length or a number that is not finite
 */
function tokenRows(
  part: Uint8Array | undefined,
  tokenCounts: readonly number[],
  encoders: readonly number[],
  { tokenWidth }: Sizes,
): Float32Array[] {
  const lengths = tokenCounts.map((count, row) => (encoders[row] === 0 ? count * tokenWidth : 0))
  const values = floats(part, 'text tokens', sum(lengths))
  let at = 0
  return lengths.map((length) => values.slice(at, (at += length)))
}

function joined(lists: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(sum(lists.map(({ length }) => length)))
  let at = 0
  for (const list of lists) {
    all.set(list, at)
    at += list.length
  }
  return all
}

function joinedBytes(lists: readonly Int8Array[]): Buffer {
  return Buffer.concat(
    lists.map(({ buffer, byteOffset, byteLength }) =>
      Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength),
    ),
  )
}
