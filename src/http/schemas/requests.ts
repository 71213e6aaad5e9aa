/**
 * The wire contract: what clients send. A `description` completes the sentence "expected …" of a
 * validation error, so it says what is taken, in words.
 */
import { Type, type Static } from 'typebox'
import { closed, Payload } from './fields.js'

export const Id = Type.String({
  pattern: '^(?!\\.{1,2}$)(?!\\s)[^\\p{C}\\p{Zl}\\p{Zp}]{1,256}(?<!\\s)$',
  description:
    '1 to 256 characters without control characters or space at either end, other than "." and ".."',
})

export const Text = Type.String({
  pattern: '\\S',
  description: 'a text with at least one visible character',
})

export const ImageString = Type.String({
  minLength: 1,
  description:
    'an image as base64, as a data-URI (data:image/jpeg;base64,…), or as a URL of a host that the service asks',
})

/** Exactly one of the properties is present; `minProperties` and `maxProperties` say so to ajv. */
const exactlyOne = { ...closed, minProperties: 1, maxProperties: 1 }

export const Input = Type.Object(
  { text: Type.Optional(Text), image: Type.Optional(ImageString) },
  { ...exactlyOne, description: 'an object with exactly one of text, image' },
)
export type Input = Static<typeof Input>

export const StoredInput = Type.Object(
  { text: Type.Optional(Text), image: Type.Optional(ImageString), id: Type.Optional(Id) },
  { ...exactlyOne, description: 'an object with exactly one of text, image, id' },
)
export type StoredInput = Static<typeof StoredInput>

export const EncodingFormat = Type.Unsafe<'float' | 'base64'>({
  type: 'string',
  enum: ['float', 'base64'],
  default: 'float',
  description: '"float" (numbers) or "base64" (little-endian float32)',
})

export const EmbedBody = Type.Object(
  {
    inputs: Type.Array(Input, {
      minItems: 1,
      description: 'a list of at least one {text} or {image}',
    }),
    encoding_format: Type.Optional(EncodingFormat),
  },
  { ...closed, description: 'an object with inputs' },
)
export type EmbedBody = Static<typeof EmbedBody>

const conditions = (items: object) => ({
  type: 'array',
  items,
  description: 'a list of conditions',
})
const ofAFilter = (items: object) => ({
  must: conditions(items),
  should: conditions(items),
  must_not: conditions(items),
})
const bound = { type: ['number', 'string'], description: 'a number or a text' }
const CONDITION = {
  type: 'object',
  properties: {
    key: { type: 'string', description: 'names of the payload joined by points' },
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
    ...ofAFilter({ type: 'object', description: 'a condition' }),
  },
  ...closed,
  description: 'an object with key and one of match, range, exists, or a filter',
}

/** As the documentation shows it; `parseFilter` says what is wrong with one. */
const Filter = Type.Unsafe<object>({
  type: 'object',
  properties: ofAFilter(CONDITION),
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
  min_match: Type.Optional(
    Type.Number({
      minimum: 0,
      maximum: 1,
      default: 0,
      description: 'a number from 0 to 1: hits with a lower match are left out',
    }),
  ),
}

export const SearchOptions = Type.Object(
  { ...options, filter: Type.Optional(FilterText) },
  { ...closed, description: 'k, candidates, rerank, min_match, filter' },
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
  { ...closed, description: 'an object with exactly one of text, image, id, and options' },
)
export type SearchBody = Static<typeof SearchBody>

const TextOrStoredInput = Type.Unsafe<string | StoredInput>({
  anyOf: [Text, StoredInput],
  description: 'a string, or an object with exactly one of text, image, id',
})

export const RerankBody = Type.Object(
  {
    query: TextOrStoredInput,
    documents: Type.Array(TextOrStoredInput, {
      minItems: 1,
      description: 'a list of at least one string, {text}, {image} or {id}',
    }),
    top_n: Type.Optional(
      Type.Integer({ minimum: 1, description: 'a whole number of 1 or more: results to return' }),
    ),
    return_documents: Type.Optional(
      Type.Boolean({
        default: false,
        description: 'true or false: repeat the text or id of each document',
      }),
    ),
  },
  { ...closed, description: 'an object with query and documents' },
)
export type RerankBody = Static<typeof RerankBody>

export const ItemParams = Type.Object({ id: Id }, closed)

export const ItemBody = Type.Object(
  { image: ImageString, payload: Type.Optional(Payload) },
  { ...closed, description: 'an object with image, and optionally payload' },
)
export type ItemBody = Static<typeof ItemBody>

/** One line of an application/x-ndjson body of POST /items. */
export const ItemLine = Type.Object(
  { id: Id, image: ImageString, payload: Type.Optional(Payload) },
  { ...closed, description: 'an object with id and image, and optionally payload' },
)
export type ItemLine = Static<typeof ItemLine>

export const PutItemQuery = Type.Object(
  { payload: Type.Optional(Type.String({ description: 'a JSON object, for a raw image/* body' })) },
  { ...closed, description: 'payload' },
)

export const ListQuery = Type.Object(
  {
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1000,
        default: 100,
        description: 'a whole number from 1 to 1000: items on a page',
      }),
    ),
    after: Type.Optional(Id),
  },
  { ...closed, description: 'limit and after' },
)

export const NoQuery = Type.Object({}, { ...closed, description: 'no parameter' })

const BackupName = Type.String({
  pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$',
  description:
    '1 to 100 letters, digits, points, hyphens and underscores, the first a letter or digit',
})

export const BackupParams = Type.Object({ name: BackupName }, closed)

export const BackupQuery = Type.Object(
  { name: Type.Optional(BackupName) },
  { ...closed, description: 'name' },
)
