import { Type, type Static } from 'typebox'
import {
  closed,
  exactlyOne,
  ImageFile,
  ImageString,
  Language,
  Text,
  Timings,
  words,
} from './fields.js'

const Input = Type.Object(
  { text: Type.Optional(Text), image: Type.Optional(ImageString) },
  { ...exactlyOne, description: 'an object with exactly one of text, image' },
)

export const EncodingFormat = Type.Unsafe<'float' | 'base64'>({
  type: 'string',
  enum: ['float', 'base64'],
  default: 'float',
  description: '"float" (numbers) or "base64" (little-endian float32)',
})
export type EncodingFormat = Static<typeof EncodingFormat>

export const EmbedBody = Type.Object(
  {
    inputs: Type.Array(Input, {
      minItems: 1,
      description: 'a list of at least one {text} or {image}',
    }),
    language: Type.Optional(Language),
    encoding_format: Type.Optional(EncodingFormat),
  },
  {
    title: 'EmbedBody',
    ...closed,
    examples: [{ inputs: [{ text: 'a red bicycle' }], encoding_format: 'base64' }],
    description: 'an object with inputs',
  },
)
export type EmbedBody = Static<typeof EmbedBody>

export const EmbedForm = Type.Object(
  {
    text: Type.Optional(Type.Array(Text)),
    image: Type.Optional(Type.Array(ImageFile)),
    language: Type.Optional(Language),
    encoding_format: Type.Optional(EncodingFormat),
  },
  { title: 'EmbedForm' },
)

export const EmbedReply = Type.Object(
  {
    model: Type.String(),
    dim: Type.Integer(),
    embeddings: Type.Array(
      Type.Object({
        index: Type.Integer(),
        type: words('text', 'image'),
        embedding: Type.Unsafe<number[] | string>({
          anyOf: [{ type: 'array', items: { type: 'number' } }, { type: 'string' }],
        }),
      }),
    ),
    timings: Timings,
  },
  {
    title: 'EmbedReply',
    description: 'Embeddings in the order of the inputs',
    examples: [
      {
        model: 'tandem-small',
        dim: 256,
        embeddings: [{ index: 0, type: 'text', embedding: 'WmFkPA==' }],
        timings: { encode: 8.2, total: 8.2 },
      },
    ],
  },
)
export type EmbedReply = Static<typeof EmbedReply>
