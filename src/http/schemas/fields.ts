/**
 * The wire contract: what clients receive, and the payload that they send and receive. What they
 * send else is in requests.ts. TypeScript types and the OpenAPI document derive from these schemas.
 */
import { Type, type Static, type TSchema } from 'typebox'

export const closed = { additionalProperties: false }

export function nullable<Value>(schema: TSchema, description: string) {
  return Type.Unsafe<Value | null>({
    ...schema,
    type: [(schema as { type?: string }).type ?? 'object', 'null'],
    description,
  })
}

/** A reply without a body. */
export function empty(description: string) {
  return Type.Unsafe<void>({ type: 'null', description })
}

export const Payload = Type.Record(Type.String(), Type.Unknown(), {
  description: 'a JSON object, kept beside the image and returned with each hit',
})
export type Payload = Static<typeof Payload>

export const Timings = Type.Record(Type.String(), Type.Number(), {
  description:
    'Milliseconds by stage: encode, recall, fetch, rerank and total; preprocess, tokenize, queue and inference are parts of them',
})

const Match = nullable<number>(
  Type.Number(),
  'Calibrated probability that image and text belong together; null where it was not computed',
)
const StoredPayload = Type.Unsafe<Payload | null>({
  type: ['object', 'null'],
  additionalProperties: true,
  description: 'As it was added',
})

export const Problem = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
  code: Type.String(),
  instance: Type.String(),
})
export type Problem = Static<typeof Problem>

export const EmbedReply = Type.Object(
  {
    model: Type.String(),
    dim: Type.Integer(),
    embeddings: Type.Array(
      Type.Object({
        index: Type.Integer(),
        type: Type.Unsafe<'text' | 'image'>({ type: 'string', enum: ['text', 'image'] }),
        embedding: Type.Unsafe<number[] | string>({
          anyOf: [{ type: 'array', items: { type: 'number' } }, { type: 'string' }],
        }),
      }),
    ),
    timings: Timings,
  },
  { description: 'Embeddings in the order of the inputs' },
)
export type EmbedReply = Static<typeof EmbedReply>

export const Hit = Type.Object({
  id: Type.String(),
  score: Type.Number({
    description: 'What hits are ordered by: match when reranked, otherwise similarity',
  }),
  similarity: Type.Number({ description: 'Cosine of the embeddings' }),
  match: Match,
  payload: StoredPayload,
})

export const SearchReply = Type.Object(
  { hits: Type.Array(Hit), timings: Timings },
  { description: 'Hits, best first' },
)

export const RerankReply = Type.Object(
  {
    model: Type.String(),
    results: Type.Array(
      Type.Object({
        index: Type.Integer({ description: 'Position of the document in the request' }),
        relevance_score: Type.Number({
          description: 'From 0 to 1: match, or for two of a kind the similarity, not below 0',
        }),
        similarity: Type.Number(),
        match: Match,
        document: Type.Optional(
          Type.Object({ text: Type.Optional(Type.String()), id: Type.Optional(Type.String()) }),
        ),
      }),
    ),
    timings: Timings,
  },
  { description: 'Documents, most relevant first' },
)

export const ItemReply = Type.Object(
  {
    id: Type.String(),
    payload: StoredPayload,
    image: Type.Object({
      mime: Type.String(),
      width: Type.Integer(),
      height: Type.Integer(),
      bytes: Type.Integer(),
    }),
    added_at: Type.String({ format: 'date-time' }),
  },
  { description: 'The item' },
)

export const ItemsReply = Type.Object(
  {
    items: Type.Array(ItemReply),
    next: nullable<string>(
      Type.String(),
      'Give it as `after` for the next page; null on the last one',
    ),
  },
  { description: 'A page of items in the order of their ids' },
)

const Stored = Type.Unsafe<'created' | 'replaced'>({
  type: 'string',
  enum: ['created', 'replaced'],
})

export const PutItemReply = Type.Object(
  { id: Type.String(), status: Stored, timings: Timings },
  { description: 'The item is on disk and can be found' },
)

export const AddReply = Type.Object(
  {
    created: Type.Integer(),
    replaced: Type.Integer(),
    failed: Type.Integer(),
    items: Type.Array(
      Type.Object({
        index: Type.Integer({ description: 'Position in the request, from 0' }),
        id: nullable<string>(Type.String(), 'null where the input did not say it'),
        status: Type.Unsafe<'created' | 'replaced' | 'failed'>({
          type: 'string',
          enum: ['created', 'replaced', 'failed'],
        }),
        error: Type.Optional(Problem),
      }),
    ),
  },
  { description: 'The outcome of each image, in the order given' },
)

const action = Type.Unsafe<'backup' | 'restore'>({ type: 'string', enum: ['backup', 'restore'] })
const time = Type.String({ format: 'date-time' })

const Work = {
  action,
  name: Type.String({ description: 'Of the backup' }),
  started_at: time,
  progress: nullable<{ items: number; of: number }>(
    Type.Object({ items: Type.Integer(), of: Type.Integer() }),
    'Items dealt with so far, and all; null where that is not known yet',
  ),
}

export const WorkReply = Type.Object(Work, {
  description: 'It has begun; GET /backups says how far it is',
})
export type WorkReply = Static<typeof WorkReply>

const EndedWork = Type.Object({
  ...Work,
  ended_at: time,
  failure: nullable<{ code: string; detail: string }>(
    Type.Object({ code: Type.String(), detail: Type.String() }),
    'Why it failed, as in a problem; null where it succeeded',
  ),
  restored: nullable<{ stored: number; removed: number; unchanged: number }>(
    Type.Object({ stored: Type.Integer(), removed: Type.Integer(), unchanged: Type.Integer() }),
    'Of a restore: items stored, removed, and those that were the same already',
  ),
})

export const BackupsReply = Type.Object(
  {
    backups: Type.Array(
      Type.Object({
        name: Type.String(),
        created_at: time,
        fingerprint: Type.String({ description: 'Of the bundle that made the embeddings' }),
        items: Type.Integer(),
        position: Type.Integer({ description: 'The last change of the item store that is in it' }),
        bytes: Type.Integer(),
      }),
    ),
    running: nullable<WorkReply>(Type.Object(Work), 'The backup or restore that is under way'),
    last: nullable<Static<typeof EndedWork>>(
      EndedWork,
      'The one that ended last, since the service was started',
    ),
  },
  { description: 'Backups that are whole, the newest first' },
)
export type BackupsReply = Static<typeof BackupsReply>

const whole = (least: number, most: number) => Type.Integer({ minimum: least, maximum: most })

export const EncoderReply = Type.Object(
  {
    name: Type.String(),
    version: Type.String(),
    description: Type.String(),
    license: Type.String(),
    languages: Type.Array(Type.String()),
    fingerprint: Type.String({
      pattern: '^[0-9a-f]{16}$',
      description: 'The same for bundles whose embeddings and tokens can be mixed',
    }),
    dim: whole(1, 65_536),
    image_tokens: Type.Object({ count: whole(0, 65_536), width: whole(0, 65_536) }),
    token_width: whole(0, 65_536),
    max_tokens: whole(1, 65_536),
    rerank: Type.Object({
      default: Type.Boolean(),
      candidates: whole(1, 1000),
      margin: Type.Optional(
        Type.Number({
          minimum: 0,
          maximum: 2,
          description: 'Similarity below that of the k-th candidate, beyond which none is reranked',
        }),
      ),
    }),
  },
  { description: 'The bundle that encodes' },
)

export const HealthReply = Type.Object(
  { status: Type.String(), detail: Type.Optional(Type.String()) },
  { description: 'The state of the service' },
)
