import { Type, type Static } from 'typebox'
import {
  closed,
  Id,
  ImageFile,
  ImageString,
  Language,
  Match,
  Notices,
  StoredPayload,
  Text,
  Timings,
} from './fields.js'

const conditions = (items: object) => ({
  type: 'array',
  items,
  description: 'a list of conditions',
})
const clauses = (items: object) => ({
  must: conditions(items),
  should: conditions(items),
  must_not: conditions(items),
})
const bound = { type: ['number', 'string'], description: 'a number or a text' }
const CONDITION = {
  type: 'object',
  properties: {
    key: { type: 'string', description: 'names in the payload joined by points' },
    match: {
      type: ['string', 'number', 'boolean', 'array'],
      items: { type: ['string', 'number', 'boolean'] },
      description:
        'a text, a number, true, false, or a list of these: the value is one of them, or a list with one of them',
    },
    range: {
      ...closed,
      type: 'object',
      properties: { gt: bound, gte: bound, lt: bound, lte: bound },
      description: 'one or more of gt, gte, lt, lte',
    },
    exists: { type: 'boolean', description: 'true or false: whether there is a value' },
    ...clauses({ type: 'object', description: 'a condition' }),
  },
  ...closed,
  description: 'an object with key and one of match, range, exists, or a filter',
}

/** For the documentation; `parseFilter` validates a filter and names the place of an error. */
const Filter = Type.Unsafe<object>({
  title: 'Filter',
  type: 'object',
  properties: clauses(CONDITION),
  ...closed,
  description:
    'an object with must, should, must_not, lists of conditions on payloads: all of must hold, one of should where there are any, none of must_not',
})

const FilterText = Type.String({
  description:
    'a filter on payloads as JSON text: an object with must, should, must_not, as in the body of POST /search',
})

const options = {
  k: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1000,
      default: 10,
      description: 'a whole number from 1 to 1000: hits to return',
    }),
  ),
  candidates: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1000,
      description: 'a whole number from k to 1000: items recalled before reranking',
    }),
  ),
  rerank: Type.Optional(
    Type.Boolean({
      description: 'true or false: order the candidates by match instead of similarity',
    }),
  ),
  language: Type.Optional(Language),
  min_match: Type.Optional(
    Type.Number({
      minimum: 0,
      maximum: 1,
      default: 0,
      description: 'a number from 0 to 1: hits with a lower match are left out',
    }),
  ),
}

/** Options as an address or a form has them. */
export const SearchOptions = Type.Object(
  { ...options, filter: Type.Optional(FilterText) },
  { ...closed, description: 'k, candidates, rerank, language, min_match, filter' },
)
export type SearchOptions = Static<typeof SearchOptions>

export const SearchQuery = Type.Object(
  { q: Text, ...SearchOptions.properties },
  { ...closed, description: 'q and options' },
)

export const SearchBody = Type.Object(
  {
    text: Type.Optional(Text),
    image: Type.Optional(ImageString),
    id: Type.Optional(Id),
    ...options,
    filter: Type.Optional(Filter),
  },
  {
    title: 'SearchBody',
    ...closed,
    examples: [
      { text: 'two dogs on a beach', k: 5, min_match: 0.5 },
      { id: 'beach', filter: { must: [{ key: 'year', range: { gte: 2024 } }] } },
    ],
    description: 'an object with exactly one of text, image, id, and options',
  },
)
export type SearchBody = Static<typeof SearchBody>

export const SearchForm = Type.Object(
  { image: ImageFile, ...SearchOptions.properties },
  { title: 'SearchForm' },
)

export const Hit = Type.Object(
  {
    id: Type.String(),
    score: Type.Number({
      description: 'What hits are ordered by: match when reranked, otherwise similarity',
    }),
    similarity: Type.Number({ description: 'Cosine of the embeddings' }),
    match: Match,
    payload: StoredPayload,
  },
  { title: 'Hit' },
)

export const SearchReply = Type.Object(
  {
    hits: Type.Array(Hit),
    notices: Notices,
    text_encoder: Type.Optional(
      Type.Object(
        { languages: Type.Array(Type.String()) },
        { description: 'The one that read the text, where the bundle has several' },
      ),
    ),
    timings: Timings,
  },
  {
    title: 'SearchReply',
    description: 'Hits, best first',
    examples: [
      {
        hits: [
          {
            id: 'beach',
            score: 0.9,
            similarity: 0.28,
            match: 0.9,
            payload: { title: 'At the sea' },
          },
        ],
        notices: [],
        timings: { encode: 12.1, recall: 0.4, fetch: 0.3, rerank: 9.8, total: 22.7 },
      },
    ],
  },
)
export type SearchReply = Static<typeof SearchReply>
