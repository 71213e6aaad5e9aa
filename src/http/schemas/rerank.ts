import { Type, type Static } from 'typebox'
import {
  closed,
  exactlyOne,
  Id,
  ImageString,
  Language,
  Match,
  Notices,
  Text,
  Timings,
  words,
} from './fields.js'

const StoredInput = Type.Object(
  { text: Type.Optional(Text), image: Type.Optional(ImageString), id: Type.Optional(Id) },
  { ...exactlyOne, description: 'an object with exactly one of text, image, id' },
)

const TextOrStoredInput = Type.Unsafe<string | Static<typeof StoredInput>>({
  anyOf: [Text, StoredInput],
  description: 'a string, or an object with exactly one of text, image, id',
})

export const RerankBody = Type.Object(
  {
    query: TextOrStoredInput,
    documents: Type.Array(TextOrStoredInput, {
      minItems: 1,
      description: 'a list of at least one string or {text}, or of at least one {image} or {id}',
    }),
    top_n: Type.Optional(
      Type.Integer({ minimum: 1, description: 'a whole number of 1 or more: results to return' }),
    ),
    language: Type.Optional(Language),
    return_documents: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'true or false: repeat the text or id of each document',
      }),
    ),
  },
  {
    title: 'RerankBody',
    examples: [{ query: 'two dogs', documents: [{ id: 'beach' }, { id: 'street' }], top_n: 1 }],
    ...closed,
    description: 'an object with query and documents',
  },
)
export type RerankBody = Static<typeof RerankBody>

export const RerankReply = Type.Object(
  {
    model: Type.String(),
    ordered_by: Type.Unsafe({
      ...words('match', 'similarity'),
      description:
        'What relevance_score is: match for a text and images or an image and texts, similarity for two of a kind',
    }),
    results: Type.Array(
      Type.Object({
        index: Type.Integer({ description: 'Position of the document in the request' }),
        relevance_score: Type.Number({
          description:
            'From 0 to 1: match, or the similarity, not below 0, as ordered_by says; 0 without a match in a list ordered by match',
        }),
        similarity: Type.Number(),
        match: Match,
        document: Type.Optional(
          Type.Object({ text: Type.Optional(Type.String()), id: Type.Optional(Type.String()) }),
        ),
      }),
    ),
    notices: Notices,
    timings: Timings,
  },
  {
    title: 'RerankReply',
    examples: [
      {
        model: 'tandem-small',
        ordered_by: 'match',
        results: [{ index: 0, relevance_score: 0.9, similarity: 0.28, match: 0.9 }],
        notices: [],
        timings: { encode: 14.9, rerank: 6.7, total: 21.6 },
      },
    ],
    description: 'Documents, most relevant first',
  },
)
export type RerankReply = Static<typeof RerankReply>
