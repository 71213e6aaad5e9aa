/**
 * The wire contract: every JSON value that clients send and receive. TypeScript types and the OpenAPI document derive
 * from these schemas. A `description` of an input completes the sentence "expected …" of a validation error.
 */
import { Type, type Static, type TSchema } from 'typebox'

const closed = { additionalProperties: false }

function nullable<Value>(schema: TSchema, description: string) {
  return Type.Unsafe<Value | null>({ ...schema, type: [(schema as { type?: string }).type ?? 'object', 'null'], description })
}

// ── Inputs ────────────────────────────────────────────────────────────────────────────────────────────────────────

export const Id = Type.String({
  pattern: '^(?!\\.{1,2}$)(?!\\s)[^\\p{C}\\p{Zl}\\p{Zp}]{1,256}(?<!\\s)$',
  description: '1 to 256 characters without control characters or space at either end, other than "." and ".."',
})

export const Text = Type.String({ pattern: '\\S', description: 'a text with at least one visible character' })

export const ImageString = Type.String({
  minLength: 1,
  description: 'a picture as base64 or as a data-URI (data:image/jpeg;base64,…)',
})

export const Payload = Type.Record(Type.String(), Type.Unknown(), {
  description: 'a JSON object, kept beside the picture and returned with each hit',
})
export type Payload = Static<typeof Payload>

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
    inputs: Type.Array(Input, { minItems: 1, description: 'a list of at least one {text} or {image}' }),
    encoding_format: Type.Optional(EncodingFormat),
  },
  { ...closed, description: 'an object with inputs' },
)
export type EmbedBody = Static<typeof EmbedBody>

const options = {
  k: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 1000, default: 10, description: 'a whole number from 1 to 1000: hits to return' }),
  ),
  candidates: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 1000, description: 'a whole number from k to 1000: items recalled before reranking' }),
  ),
  rerank: Type.Optional(
    Type.Boolean({ description: 'true or false: order the candidates by match instead of similarity' }),
  ),
  min_match: Type.Optional(
    Type.Number({ minimum: 0, maximum: 1, default: 0, description: 'a number from 0 to 1: hits with a lower match are left out' }),
  ),
}

export const SearchOptions = Type.Object(options, { ...closed, description: 'k, candidates, rerank, min_match' })
export type SearchOptions = Static<typeof SearchOptions>

export const SearchQuery = Type.Object({ q: Text, ...options }, { ...closed, description: 'q and options' })

export const SearchBody = Type.Object(
  { text: Type.Optional(Text), image: Type.Optional(ImageString), id: Type.Optional(Id), ...options },
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
    top_n: Type.Optional(Type.Integer({ minimum: 1, description: 'a whole number of 1 or more: results to return' })),
    return_documents: Type.Optional(
      Type.Boolean({ default: false, description: 'true or false: repeat the text or id of each document' }),
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
      Type.Integer({ minimum: 1, maximum: 1000, default: 100, description: 'a whole number from 1 to 1000: items on a page' }),
    ),
    after: Type.Optional(Id),
  },
  { ...closed, description: 'limit and after' },
)

export const NoQuery = Type.Object({}, { ...closed, description: 'no parameter' })

// ── Replies ───────────────────────────────────────────────────────────────────────────────────────────────────────

export const Timings = Type.Record(Type.String(), Type.Number(), {
  description: 'Milliseconds by stage: encode, recall, fetch, rerank and total; preprocess, tokenize, queue and inference are parts of them',
})

const Match = nullable<number>(Type.Number(), 'Calibrated probability that picture and text belong together; null where it was not computed')
const StoredPayload = Type.Unsafe<Payload | null>({ type: ['object', 'null'], additionalProperties: true, description: 'As it was added' })

export const Problem = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
  code: Type.String(),
  instance: Type.String(),
})
export type Problem = Static<typeof Problem>

export const EmbedReply = Type.Object({
  model: Type.String(),
  dim: Type.Integer(),
  embeddings: Type.Array(
    Type.Object({
      index: Type.Integer(),
      type: Type.Unsafe<'text' | 'image'>({ type: 'string', enum: ['text', 'image'] }),
      embedding: Type.Unsafe<number[] | string>({ anyOf: [{ type: 'array', items: { type: 'number' } }, { type: 'string' }] }),
    }),
  ),
  timings: Timings,
}, { description: 'Embeddings in the order of the inputs' })

export const Hit = Type.Object({
  id: Type.String(),
  score: Type.Number({ description: 'What hits are ordered by: match when reranked, otherwise similarity' }),
  similarity: Type.Number({ description: 'Cosine of the embeddings' }),
  match: Match,
  payload: StoredPayload,
})

export const SearchReply = Type.Object({ hits: Type.Array(Hit), timings: Timings }, { description: 'Hits, best first' })

export const RerankReply = Type.Object({
  model: Type.String(),
  results: Type.Array(
    Type.Object({
      index: Type.Integer({ description: 'Position of the document in the request' }),
      relevance_score: Type.Number({ description: 'From 0 to 1: match, or for two of a kind the similarity, not below 0' }),
      similarity: Type.Number(),
      match: Match,
      document: Type.Optional(Type.Object({ text: Type.Optional(Type.String()), id: Type.Optional(Type.String()) })),
    }),
  ),
  timings: Timings,
}, { description: 'Documents, most relevant first' })

export const ItemReply = Type.Object({
  id: Type.String(),
  payload: StoredPayload,
  picture: Type.Object({ mime: Type.String(), width: Type.Integer(), height: Type.Integer(), bytes: Type.Integer() }),
  added_at: Type.String({ format: 'date-time' }),
}, { description: 'The item' })

export const ItemsReply = Type.Object({
  items: Type.Array(ItemReply),
  next: nullable<string>(Type.String(), 'Give it as `after` for the next page; null on the last one'),
}, { description: 'A page of items in the order of their ids' })

const Stored = Type.Unsafe<'created' | 'replaced'>({ type: 'string', enum: ['created', 'replaced'] })

export const PutItemReply = Type.Object({ id: Type.String(), status: Stored, timings: Timings }, { description: 'The item is on disk and can be found' })

export const AddReply = Type.Object({
  created: Type.Integer(),
  replaced: Type.Integer(),
  failed: Type.Integer(),
  items: Type.Array(
    Type.Object({
      index: Type.Integer({ description: 'Position in the request, from 0' }),
      id: nullable<string>(Type.String(), 'null where the input did not say it'),
      status: Type.Unsafe<'created' | 'replaced' | 'failed'>({ type: 'string', enum: ['created', 'replaced', 'failed'] }),
      error: Type.Optional(Problem),
    }),
  ),
}, { description: 'The outcome of each picture, in the order given' })

export const HealthReply = Type.Object({ status: Type.String(), detail: Type.Optional(Type.String()) }, { description: 'The state of the service' })
